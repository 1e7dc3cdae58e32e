"""How the help of a command looks: its options in panels, then its examples, in plain text of any terminal's width."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

SIZE, BOUNDS, ORDER, MODELS, LAYERS, DELTA = "Size", "Bounds", "Order", "Models", "Layers", "Weight delta"
DATA, CHATS, RECIPE, LOSSES, PLAN = "Data", "Conversations", "Recipe", "Losses", "Plan"
TEXT, SEARCH, SCORES, TASKS, HARDWARE, HUB = "Text", "Search", "Scores", "Tasks of lm-eval", "Hardware", "Hub"
OUTPUT = "Output"

README = "https://github.com/boomerang-cli/boomerang"

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
"""What every command understands, and the columns that its help uses at most."""


def epilog(section: str, *examples: str) -> str:
    """Return what stands below a command's options: examples of 78 columns at most, and a section of README."""
    anchor = section.lower().replace(" ", "-").replace(",", "")
    return "\n".join(["Examples:", *(f"  {example}" for example in examples), "", f"README: {README}#{anchor}"])


class Command(TyperCommand):
    """A command whose help stands in panels (``rich_help_panel``), without Rich, which takes longer than all else.

    Panels come in the sequence of their first options; what has none comes last, with the output. The epilog is printed
    as it stands: examples are there to be copied.
    """

    def parse_args(self, ctx: Any, args: Any) -> Any:
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            value = ctx.params.get(parameter.name)
            if "" in (value if isinstance(value, (list, tuple)) else [value]) and _is_typed(ctx, parameter):
                raise typer.BadParameter("it is empty: is a variable not set?", ctx=ctx, param=parameter)
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                panels.setdefault(_panel(parameter), []).append(record)
        for name in sorted(panels, key=OUTPUT.__eq__):
            with formatter.section(name):
                formatter.write_dl(panels[name])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        formatter.write(f"\n{self.epilog}\n" if self.epilog else "")


def _is_typed(ctx: Any, parameter: Any) -> bool:
    """Tell whether a value stands in the command line; an argument may be empty, where none is needed."""
    source: str = ctx.get_parameter_source(parameter.name).name
    return source == "COMMANDLINE" and (parameter.param_type_name == "option" or parameter.required)


def _panel(parameter: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    return "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or OUTPUT
