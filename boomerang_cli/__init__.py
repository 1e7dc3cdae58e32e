"""Model size interpolation: every model size between a distilled student and its teacher (arXiv 2510.05064)."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself takes milliseconds, in which nobody listens to Ctrl-C yet
if TYPE_CHECKING:
    from typing import Any

    from boomerang_cli.engine.models.intermediate import build_intermediate_model

__version__ = "0.1.0"
__all__ = ["__version__", "build_intermediate_model"]


def __getattr__(name: str) -> Any:
    """Import the engine on first use: neither torch nor transformers comes with the package."""
    if name != "build_intermediate_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from boomerang_cli.engine.models.intermediate import build_intermediate_model

    return build_intermediate_model
