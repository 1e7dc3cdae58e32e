"""Model size interpolation: every model size between a distilled student and its teacher (arXiv 2510.05064).

Each command is a function of its own name with the command's own parameters, and ``help()`` of it says all. What one
refuses or fails to do is a ``BoomerangError``; the kinds that it names are in ``boomerang_cli.engine.errors``. All are
imported on first use: neither torch nor transformers comes with the package.
"""

from __future__ import annotations

from boomerang_cli.version import __version__

TYPE_CHECKING = False  # typing itself takes milliseconds, in which nobody listens to Ctrl-C yet
if TYPE_CHECKING:
    from boomerang_cli.engine.distill import distill
    from boomerang_cli.engine.errors import BoomerangError
    from boomerang_cli.engine.info import info
    from boomerang_cli.engine.init_student import init_student
    from boomerang_cli.engine.models.intermediate import build_intermediate_model
    from boomerang_cli.engine.patch import patch
    from boomerang_cli.engine.push import push
    from boomerang_cli.engine.sweep import sweep
else:  # a type checker that saw it would take any name for one of the package's

    def __getattr__(name):
        """Import a verb on first use."""
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        homes = {"build_intermediate_model": "models.intermediate", "BoomerangError": "errors"}
        return getattr(import_module(f"boomerang_cli.engine.{homes.get(name, name)}"), name)


__all__ = [
    "BoomerangError",
    "__version__",
    "build_intermediate_model",
    "distill",
    "info",
    "init_student",
    "patch",
    "push",
    "sweep",
]


def __dir__() -> list[str]:
    return __all__
