"""Model size interpolation: every model size between a distilled student and its teacher (arXiv 2510.05064).

Each command is a function of its own name with the command's own parameters. They are imported on first use: neither
torch nor transformers comes with the package.
"""

from __future__ import annotations

from boomerang_cli.version import __version__

TYPE_CHECKING = False  # typing itself takes milliseconds, in which nobody listens to Ctrl-C yet
if TYPE_CHECKING:
    from typing import Any

    from boomerang_cli.engine.distill import distill
    from boomerang_cli.engine.info import info
    from boomerang_cli.engine.init_student import init_student
    from boomerang_cli.engine.models.intermediate import build_intermediate_model
    from boomerang_cli.engine.patch import patch
    from boomerang_cli.engine.push import push
    from boomerang_cli.engine.sweep import sweep

__all__ = ["__version__", "build_intermediate_model", "distill", "info", "init_student", "patch", "push", "sweep"]


def __getattr__(name: str) -> Any:
    """Import a verb on first use."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "models.intermediate" if name == "build_intermediate_model" else name
    return getattr(import_module(f"boomerang_cli.engine.{home}"), name)


def __dir__() -> list[str]:
    return __all__
