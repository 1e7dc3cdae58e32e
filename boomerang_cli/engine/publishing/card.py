"""The model card, ``README.md``: what a model is, how it was made, how to load it, and how to make another size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boomerang_cli.engine.output.plan import Plan, as_json_text
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.publishing import card_sections as sections
from boomerang_cli.engine.publishing import plain_yaml
from boomerang_cli.engine.publishing.card_metadata import metadata_of, task_of
from boomerang_cli.engine.publishing.privacy import public
from boomerang_cli.engine.publishing.provenance import PROVENANCE_FILE, delta_provenance, provenance
from boomerang_cli.version import __version__

if TYPE_CHECKING:
    from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
    from boomerang_cli.engine.checkpoint.parts import Parts
    from boomerang_cli.engine.pair.delta import Delta

CARD_FILE = "README.md"


@dataclass(frozen=True)
class Results:
    """What a sweep measured.

    Attributes:
        rows: one a size, as ``results.json`` holds them.
        data: the text that was scored on.
        own_blocks: by which the row is known of a student, whose sizes these are; None of one of the sizes.
    """

    rows: Sequence[Mapping[str, Any]] = ()
    data: Sequence[str] = ()
    own_blocks: Sequence[int] | None = None


NO_RESULTS = Results()
_MARK = "<!-- made by boomerang"


def is_ours(card: str) -> bool:
    """Tell whether a model card was made here and not changed into somebody's own: its mark still stands in it."""
    return _MARK in card


def model_documents(
    plan: Plan, pair: Pair, *, order: str | None, patched_blocks: Sequence[int], name: str
) -> dict[str, str]:
    """Return ``boomerang.json`` and the card of a patched model (see :func:`provenance.provenance`).

    Args:
        name: the folder's.
    """
    made = provenance(plan, pair, order=order, patched_blocks=patched_blocks)
    card = model_card(made, name=name, config=plan.config, multimodal=plan.multimodal)
    return {PROVENANCE_FILE: as_json_text(made), CARD_FILE: card}


def delta_documents(plan: Plan, teacher: Checkpoint, parts: Parts, delta: Delta, *, name: str) -> dict[str, str]:
    """Return the same of a student with a weight delta (see :func:`provenance.delta_provenance`)."""
    made = delta_provenance(plan, teacher, parts, delta)
    card = model_card(made, name=name, config=plan.config, multimodal=plan.multimodal)
    return {PROVENANCE_FILE: as_json_text(made), CARD_FILE: card}


def model_card(
    made: Mapping[str, Any],
    *,
    name: str,
    config: Mapping[str, Any],
    multimodal: bool = False,
    results: Results = NO_RESULTS,
) -> str:
    """Return the card of a patched model or of a student; no path of this disk is in it.

    Args:
        made: the content of ``boomerang.json`` (see ``provenance.py``), or the same of a student.
        name: what the model is loaded by: a Hub id, or a folder.
        config: the content of its ``config.json``.
        multimodal: whether it reads images too.
        results: of a sweep.
    """
    made, task = public(made), task_of(config, multimodal=multimodal)
    own = made.get("patched_blocks") if results.own_blocks is None else list(results.own_blocks)
    text = [
        f"# {name.rpartition('/')[2]}",
        sections.summary(made),
        "## Layers\n\n" + sections.layers(made),
        "## Weight delta\n\n" + sections.weight_delta(made) if "delta_student" in made else "",
        "## Sizes\n\n" + sections.sizes(made),
        "## Distillation\n\n" + sections.recipe(made["distillation"]) if made.get("distillation") else "",
        "## Results\n\n" + sections.results(own, results.rows, public(results.data)) if results.rows else "",
        "## Samples\n\n" + written if (written := sections.samples(own, results.rows)) else "",
        "## Use\n\n" + sections.usage(name, task),
        sections.readers(config),
        "## Other sizes\n\n" + sections.other_sizes(made, name, scored=results.own_blocks is not None),
        "## Licence\n\n" + sections.licence(made),
        "## Citation\n\n" + sections.CITATION,
    ]
    front = plain_yaml.dump(metadata_of(made, task))
    mark = f"{_MARK} {__version__}: `boomerang push` writes this card anew while this line stands -->"
    return f"---\n{front}---\n{mark}\n\n" + "\n\n".join(filter(None, text)) + "\n"
