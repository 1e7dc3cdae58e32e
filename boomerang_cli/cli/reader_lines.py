"""The warning that a model is another one in programs with code of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from boomerang_cli.engine.publishing.card_readers import supposed


def misread_warning(known: Mapping[str, tuple[str, ...]], which: str = "this model") -> Iterable[str]:
    """Yield the warning, if there is one: who supposes what is not so of ``which``."""
    if known:
        yield f"warning: {supposed(known)}: not so in {which}, which they refuse or misread, and transformers does not"
