"""Which model types work, what is special about each, and which are refused: what the tables say, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from boomerang_cli.engine.checkpoint.families import FAMILIES, Family, is_encoder
from boomerang_cli.engine.checkpoint.family_table import REFUSED, derived_rows, family_from_row

_USUAL = Family()
_EXPERTS = ("mlp_layer_types", "moe_layers", "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
"""Fields that say which layers route to experts; ``sparse_steps`` stands for those of it."""
_DECODER_HALF = "model.decoder."
"""The body of an encoder-decoder's decoder that is a model of its own."""


@dataclass(frozen=True)
class FamilyEntry:
    """A model type whose layers can be moved.

    Attributes:
        special: what differs from most types, in a few words each.
        order, keep_first, keep_last: the defaults of ``patch`` and ``init-student``.
        distillable: whether ``distill`` and ``sweep`` take it too: it continues a text, and is no multimodal one.
        derived: whether its row was derived from its class in transformers and proved, or else is written by hand.
    """

    model_type: str
    special: tuple[str, ...]
    order: str
    keep_first: int
    keep_last: int
    distillable: bool
    derived: bool


@dataclass(frozen=True)
class FamilyList:
    """What is known of the model types whose names contain a text.

    Attributes:
        refused: why layers of a type cannot be moved, by type.
        nearest: where none contains the text, the types that are spelled most like it.
    """

    families: tuple[FamilyEntry, ...]
    refused: Mapping[str, str]
    nearest: tuple[str, ...]


def list_families(containing: str = "") -> FamilyList:
    """Return the types whose names contain a text, sorted by name; all of them for the empty one."""
    wanted = containing.strip().lower()
    works = {name: (family, False) for name, family in FAMILIES.items()}
    works |= {name: (family_from_row(row), True) for name, row in derived_rows().items() if "refused" not in row}
    refused = {name: row["refused"] for name, row in derived_rows().items() if "refused" in row} | REFUSED
    families = [_entry(name, *works[name]) for name in sorted(works) if wanted in name]
    reasons = {name: refused[name] for name in sorted(refused) if wanted in name}
    return FamilyList(tuple(families), reasons, () if families or reasons else nearest_types(wanted))


def nearest_types(model_type: str) -> tuple[str, ...]:
    """Return up to three types that work and are spelled most like another, the nearest first."""
    works = [name for name, row in derived_rows().items() if "refused" not in row]
    return tuple(get_close_matches(model_type, [*FAMILIES, *works], n=3, cutoff=0.6))


def _entry(model_type: str, family: Family, derived: bool) -> FamilyEntry:
    encoder = is_encoder({"model_type": model_type})
    return FamilyEntry(
        model_type=model_type,
        special=tuple(_special(family, encoder)),
        order=family.order,
        keep_first=family.keep_first,
        keep_last=family.keep_last,
        distillable=not encoder and family.wrapper is None,
        derived=derived,
    )


def _special(family: Family, encoder: bool) -> Iterator[str]:
    """Yield what a user of a type may want to know before its layers are moved."""
    if encoder:
        yield "encoder: init-student and patch only"
    if family.wrapper:
        yield "multimodal: its text layers, by init-student and patch only"
    if family.base == _DECODER_HALF:
        yield "the decoder of an encoder-decoder, saved alone"
    fields = [*family.layer_lists, *dict(family.numbered), *dict(family.thresholds)]
    kinds = ["hybrid"] if any(field not in _EXPERTS for field in fields) else []
    kinds += ["dense and expert"] if family.sparse_steps or any(field in _EXPERTS for field in fields) else []
    if kinds:
        yield f"{', '.join(kinds)} layers kept in proportion"
    if family.ends_in:
        yield f"a kept set ends in a layer of {family.ends_in.replace('_', ' ')}"
    if family.last_apart:
        yield "the last layer is always kept"
    for field, needed, _ in family.requires:
        yield f"only where {field} is {needed}"
    for field in family.depth_scaled:
        yield f"{field} follows the depth"
    if not family.ties:
        yield "never tied"
    if family.order != _USUAL.order:
        yield f"patched from the {'start' if family.order == 'first' else 'end'}"
    if (family.keep_first, family.keep_last) != (_USUAL.keep_first, _USUAL.keep_last):
        yield f"keeps {family.keep_first} layers at the start, {family.keep_last} at the end"
