"""The Typer app: finds the command that is wanted, and catches the engine's errors once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from boomerang_cli.cli import error_line, interrupts, panels
from boomerang_cli.cli.signals import Terminated, ending_signals_raise
from boomerang_cli.engine.errors import BoomerangError
from boomerang_cli.engine.processes.launch import is_first_process
from boomerang_cli.version import __version__

COMMANDS = {
    "init_student": "Make a student from some layers of a teacher.",
    "distill": "Train a student towards its teacher, once.",
    "patch": "Make one size between a student and its teacher.",
    "sweep": "Score every size, and find the best order to patch.",
    "push": "Send a model, or a sweep's models, to the Hub.",
    "info": "Tell what a model or a folder is, and what to do next.",
    "families": "List the model types that work, and what is special.",
    "demo": "See it work, on a small teacher that ships inside.",
}
"""Functions in modules of their names, and the first lines of their help: the list of them imports none."""

_WRONG_USAGE = 2
"""The exit code of it, as of most programs."""


class _Commands(TyperGroup):
    """Imports a command once it is wanted, and turns errors into one line and an exit code."""

    format_epilog = panels.Command.format_epilog

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)  # in the order of a project, not of the alphabet

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if not ctx.resilient_parsing and args[0] not in self.commands:
            from boomerang_cli.cli.usage import unknown_command

            raise unknown_command(args[0], list(self.commands))
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and _import_command(str(name).replace("-", "_")), rest

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _errors_in_one_line():  # help and version are printed here
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _errors_in_one_line(), ending_signals_raise():
            import boomerang_cli.engine.output.system_calls  # noqa: F401  (refuses a system that no command can run on)

            return super().invoke(ctx)


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    if os.environ.get("BOOMERANG_DEBUG") == "1":
        yield
        return
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if is_first_process():  # a terminal interrupts all
            error_line.error(str(interrupt) or "interrupted")
        raise typer.Exit(interrupts.EXIT_CODE) from None
    except Terminated as signal:
        error_line.error(str(signal))
        raise typer.Exit(signal.code) from None
    except BoomerangError as error:
        error_line.error(str(error))
        raise typer.Exit(_WRONG_USAGE if error.usage else 1) from None
    except BrokenPipeError:
        raise typer.Exit(1) from None
    except Exception as error:
        if isinstance(error, (typer.Exit, typer.Abort)) or type(error).__name__ == "NoArgsIsHelpError":
            raise  # Typer's own: the end of a command, or help
        if hasattr(error, "format_message"):  # Typer's own: wrong usage
            from boomerang_cli.cli.usage import usage_line

            error_line.error(usage_line(error))
            raise typer.Exit(_WRONG_USAGE) from None
        error_line.error(f"{type(error).__name__}: {error} (unexpected: BOOMERANG_DEBUG=1 shows where it comes from)")
        raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands,
    name="boomerang",
    help="Every model size between a distilled student and its teacher (boomerang distillation).",
    epilog=panels.epilog(
        "Commands",
        "boomerang demo",
        "boomerang init-student TEACHER; boomerang distill; boomerang patch --layers 2",
        "boomerang patch --student Harvard-DCML/boomerang-pythia-1.6B --params 2B",
    ),
    context_settings=panels.CONTEXT,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"boomerang {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def _register(name: str, summary: str) -> None:
    """Let the app list a command without importing it."""

    def stand_in() -> None:
        pass

    stand_in.__name__ = name
    app.command(help=summary)(stand_in)


def _import_command(name: str) -> Any:
    """Return a command as Typer makes it of its function, with all its options."""
    module = import_module(f"boomerang_cli.cli.{name}")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(cls=panels.Command, epilog=module.EPILOG)(getattr(module, name))
    return get_command(alone)


for _name, _summary in COMMANDS.items():
    _register(_name, _summary)
