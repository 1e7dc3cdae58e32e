"""What a multimodal model is beside its text model, seen in its configuration's class and in its tensors' names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from boomerang_cli.engine.checkpoint.class_config import completed_config
from boomerang_cli.engine.checkpoint.derivation.blank_model import Blueprint, Names
from boomerang_cli.engine.checkpoint.derivation.refusal import NotDerivableError
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.wrappers import Wrapper
from boomerang_cli.engine.errors import UnsupportedModelError

_RULES = (
    "order", "keep_first", "keep_last", "layer_lists", "numbered", "thresholds", "sparse_steps", "ends_in",
    "last_apart", "depth_list", "repeated", "depth_scaled", "requires", "float32",
    "float32_in_float16",
)  # fmt: skip
_TIE = "tie_word_embeddings"
_DEEPSTACK = "vision_config.deepstack_visual_indexes"
_REACHED = dict.fromkeys(
    ("qwen3_vl", "qwen3_vl_moe", "qwen3_omni_moe_thinker", "cohere_compass", "cosmos3_omni"), _DEEPSTACK
)
"""Types that add the image tower's features behind their first layers, a list of features a layer: read in their code,
which asks for the layer's number [transformers 5.23]."""


def wrapper_of(blueprint: Blueprint, config: Mapping[str, Any]) -> Wrapper:
    """Return all of a wrapper but how other files spell its names.

    Args:
        blueprint: completed by its class.
        config: as it stands.

    Raises:
        NotDerivableError: it is not known how its class reads ``config.json``.
    """
    section = blueprint.section
    return Wrapper(
        text_type=str(blueprint.config[section].get("model_type")),
        section=section,
        flat=_is_read_flat(blueprint),
        tied_text=_tied_text(config, section),
        reached=_REACHED.get(config["model_type"]),
    )


def with_rules_of(family: Family, text: Family) -> Family:
    """Return a family with what is known by hand of its text model: all but the names, which another model has."""
    return replace(family, **{field: getattr(text, field) for field in _RULES})


def carried_prefixes(modules: Mapping[str, str], text: Collection[str]) -> list[str]:
    """Return the shortest prefixes of the tensors that are none of the text model's and start none of its names.

    Args:
        modules: by the names on disk, those of the model.
        text: names and prefixes of the text model, on disk.
    """
    return sorted({_shortest(name, text) for name in modules if not name.startswith(tuple(text))})


def _shortest(name: str, text: Iterable[str]) -> str:
    parts = name.split(".")
    prefixes = (".".join(parts[:count]) + "." for count in range(1, len(parts)))
    return next((prefix for prefix in prefixes if not any(each.startswith(prefix) for each in text)), name)


def spellings(modules: Mapping[str, str], prefixes: Iterable[str], names: Names) -> tuple[tuple[str, str], ...]:
    """Return the module side's prefixes where the files' are others: newer files of old types may hold either.

    None, if some names differ in more than that.
    """
    found = {}
    for prefix in prefixes:
        pairs = (pair for pair in modules.items() if pair[0].startswith(prefix))
        name, module = next(pairs, (prefix, names.to_module(prefix)))  # no file of a tied model holds its head
        theirs, ours = _without_common_end(module, name)
        if theirs != ours:
            found[theirs] = ours
    wrapper = Wrapper("", spellings=tuple(sorted(found.items())))
    joined = Counter(modules.values())  # experts stand one by one in files: their prefixes are those of the rest
    differ = any(wrapper.spelled(module) != name for name, module in modules.items() if joined[module] == 1)
    return () if differ else wrapper.spellings


def _without_common_end(one: str, other: str) -> tuple[str, str]:
    left, right = one.split("."), other.split(".")
    end = ""
    while len(left) > 1 and len(right) > 1 and left[-1] == right[-1]:
        left, right, end = left[:-1], right[:-1], "."
    return ".".join(left) + end, ".".join(right) + end


def _is_read_flat(blueprint: Blueprint) -> bool:
    """Tell whether the class takes the section's fields from the top where there is no section."""
    text = {key: value for key, value in blueprint.config[blueprint.section].items() if key != "model_type"}
    top = {key: value for key, value in blueprint.config.items() if key != blueprint.section}
    try:
        read = completed_config({**text, **top}, "it")[blueprint.section]
    except UnsupportedModelError:
        return False
    return all(read.get(key) == value for key, value in text.items() if "layers" in key or "size" in key)


def _tied_text(config: Mapping[str, Any], section: str) -> bool | None:
    """Return what an absent tie of the text model means where either may say that the head is tied; else None.

    Raises:
        NotDerivableError: the class reads the two in another way.
    """
    reads = {
        (top, below): _read_tie(config, section, top, below)
        for top in (True, False, None)
        for below in (True, False, None)
    }
    default = reads[None, False]
    alone = {key: default if key[0] is None else key[0] for key in reads}
    if reads == alone:
        return None
    absent = reads[False, None]
    either = {(top, below): alone[top, below] or (absent if below is None else below) for top, below in reads}
    if reads != either:
        raise NotDerivableError(f"its class reads {_TIE} in a way of its own")
    return absent


def _read_tie(config: Mapping[str, Any], section: str, top: bool | None, below: bool | None) -> bool:
    text = {key: value for key, value in (config.get(section) or {}).items() if key != _TIE}
    whole = {key: value for key, value in config.items() if key not in (_TIE, section)}
    whole |= {section: text if below is None else {**text, _TIE: below}}
    try:
        return bool(completed_config(whole if top is None else {**whole, _TIE: top}, "it").get(_TIE))
    except UnsupportedModelError as error:
        raise NotDerivableError(str(error)) from None
