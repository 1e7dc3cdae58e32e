"""Derives a family: straight-line steps, each of which may refuse."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from boomerang_cli.engine.checkpoint.class_config import completed_config
from boomerang_cli.engine.checkpoint.derivation.blank_model import (
    Blueprint,
    Names,
    build,
    layers_of,
    names_of,
    numbered_prefix,
)
from boomerang_cli.engine.checkpoint.derivation.code_scan import code_problem
from boomerang_cli.engine.checkpoint.derivation.guards import check_kept, check_sharing
from boomerang_cli.engine.checkpoint.derivation.layer_fields import find_layer_fields, find_stack
from boomerang_cli.engine.checkpoint.derivation.left_out import passed_over, prediction_layers, unread, unused_heads
from boomerang_cli.engine.checkpoint.derivation.refusal import NotDerivableError
from boomerang_cli.engine.checkpoint.derivation.surroundings import common_prefix, final_norm, what_is_around
from boomerang_cli.engine.checkpoint.derivation.wrapped import carried_prefixes, spellings, with_rules_of, wrapper_of
from boomerang_cli.engine.checkpoint.families import FAMILIES, Family
from boomerang_cli.engine.checkpoint.family_table import check_required
from boomerang_cli.engine.checkpoint.layer_config import layer_values
from boomerang_cli.engine.errors import UnsupportedModelError

_INNER = ("text_config", "decoder", "text_encoder")


def derive(config: Mapping[str, Any], tensors: Collection[str]) -> Family:
    """Derive the family of a model.

    Args:
        config: ``config.json``.
        tensors: the names of all of its tensors, as in its files.

    Raises:
        NotDerivableError: its layers cannot be moved, or it is not known how; says why.
    """
    # 1. The model, without weights, and its names.
    _check_class(config)
    model = _built(config)
    blueprint = replace(Blueprint.of(config), config=completed_config(config, "it"))
    whole = blueprint.config[blueprint.section] if blueprint.section else blueprint.config
    names = names_of(model)
    modules = {name: names.to_module(name) for name in tensors}
    # 2. The layers: one numbered run of tensors, as long as the field that makes it longer.
    stack, depth_field = find_stack(blueprint, whole, _stacks(model, modules.values(), names))
    prefixes = _disk_prefixes(modules, stack)
    fields = find_layer_fields(blueprint, whole, stack, depth_field, model)
    # 3. What keeps layers where they are.
    check_sharing(model, stack)
    wrapper = wrapper_of(blueprint, config) if blueprint.section else None
    known = FAMILIES.get(wrapper.text_type) if wrapper else None
    read_by_hand = known or (wrapper and wrapper.reached)
    if not read_by_hand and (problem := code_problem(model, stack, list(fields.lists))):
        raise NotDerivableError(problem)
    # 4. What runs before and after them.
    body = f"{stack.rstrip('.').rpartition('.')[0]}." if wrapper else ""
    before, after, head = what_is_around(model, stack, modules, names, body)
    base = common_prefix(before[0], prefixes[stack])
    if wrapper:
        text = [prefixes[stack], *before, *after, head]
        before += carried_prefixes(modules, text)
        wrapper = replace(wrapper, spellings=spellings(modules, [*before, prefixes[stack], *after, head], names))
    family = Family(
        base=base,
        layers=prefixes[stack],
        before=tuple(before),
        after=(*after, *unused_heads(config, base, head), head),
        final_norm=final_norm(after, base),
        head=head,
        tied_bias=_tied_bias(model, names),
        tied_by_default=_tied_by_default(blueprint.untied(config)),
        depth_field=depth_field,
        dropped=(*unread(names), *passed_over(model, modules, names), *(prediction_layers(model) if wrapper else ())),
        float32=_kept_in_float32(model, "_keep_in_fp32_modules_strict"),
        float32_in_float16=_kept_in_float32(model, "_keep_in_fp32_modules"),
        layer_lists=tuple(fields.lists),
        numbered=tuple((name, first) for name, first in fields.numbered.items() if not _is_sparse(name, whole)),
        thresholds=tuple(fields.thresholds.items()),
        sparse_steps="mlp_only_layers" in whole and "decoder_sparse_step" in whole,
        ties=_ties(model),
        more_rows=_rows(model) > int(whole.get("vocab_size") or 0) > 0,
        wrapper=wrapper,
    )
    family = replace(family, first_apart=_first_apart(config, family, model, stack))
    if known:
        family = with_rules_of(family, known)
        _check_required(config, family)
    if blueprint.config.get("tie_word_embeddings") and not family.ties:
        raise NotDerivableError("config.json says tie_word_embeddings, and its class never ties")
    # 5. The proof of the fields: shorter models' layers are their origins'.
    try:
        reached = wrapper.reached_layers(config, "it") if wrapper else 0
        for kept in _kept_sets(fields.depth, reached):
            check_kept(config, family, stack, kept)
    except NotDerivableError as error:
        patterns = f" (see {', '.join(fields.patterns)})" if fields.patterns else ""
        raise NotDerivableError(f"{error}{patterns}") from None
    return family


def _check_class(config: Mapping[str, Any]) -> None:
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    model_type = str(config.get("model_type"))
    kind: Any = CONFIG_MAPPING[model_type] if model_type in CONFIG_MAPPING else None  # noqa: SIM401 (its get is not)
    multimodal = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and "text_config" in kind.sub_configs
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING and not multimodal:
        raise NotDerivableError("the installed transformers has no causal language model of the type")
    if not multimodal and kind.sub_configs and any(isinstance(config.get(each), dict) for each in _INNER):
        raise NotDerivableError("its text model stands within another")


def _check_required(config: Mapping[str, Any], family: Family) -> None:
    try:
        check_required(config, family, "its text model")
    except UnsupportedModelError as error:
        raise NotDerivableError(str(error)) from None


def _built(config: Mapping[str, Any]) -> Any:
    try:
        return build(config)
    except Exception as error:  # whatever a class raises for values that it does not expect
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NotDerivableError(f"transformers cannot build it: {reason[:120]}") from None


def _disk_prefixes(modules: Mapping[str, str], stack: str) -> dict[str, str]:
    """Return by what stands before the numbers of the layers' modules what does in the files."""
    prefixes: dict[str, str] = {}
    for name, module in modules.items():
        on_disk, in_model = numbered_prefix(name), numbered_prefix(module)
        if on_disk and in_model and in_model[0] == stack:
            same = prefixes.setdefault(in_model[0], on_disk[0]) == on_disk[0]
            if not same or on_disk[1] != in_model[1]:
                raise NotDerivableError(f"{name} has another number in the model, {module}")
    return prefixes


def _stacks(model: Any, modules: Iterable[str], names: Names) -> dict[str, int]:
    """Return the numbered runs that are lists of modules, with their lengths."""
    found: dict[str, set[int]] = {}
    for module in modules:
        if module in names.known and (numbered := numbered_prefix(module)):
            found.setdefault(numbered[0], set()).add(numbered[1])
    lengths = {prefix: len(layers_of(model, prefix) or ()) for prefix in found}
    return {prefix: length for prefix, length in lengths.items() if found[prefix] == set(range(length))}


def _tied_bias(model: Any, names: Names) -> tuple[str, str] | None:
    tied = getattr(model, "_tied_weights_keys", None)
    if not isinstance(tied, dict):
        return None
    head = next(name for name, module in model.named_modules() if module is model.get_output_embeddings())
    source = tied.get(f"{head}.bias")
    return (names.to_disk(f"{head}.bias"), names.to_disk(source)) if source else None


def _ties(model: Any) -> bool:
    head = next(name for name, module in model.named_modules() if module is model.get_output_embeddings())
    tied = getattr(model, "_tied_weights_keys", None) or {}
    return any(re.fullmatch(each, f"{head}.weight") for each in tied)


def _rows(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def _tied_by_default(config: Mapping[str, Any]) -> bool:
    without = {key: value for key, value in config.items() if key != "tie_word_embeddings"}
    try:
        return bool(completed_config(without, "it").get("tie_word_embeddings"))
    except UnsupportedModelError as error:
        raise NotDerivableError(str(error)) from None


def _kept_in_float32(model: Any, attribute: str) -> tuple[str, ...]:
    return tuple(sorted(getattr(model, attribute, None) or ()))


def _first_apart(config: Mapping[str, Any], family: Family, model: Any, stack: str) -> bool:
    """Tell whether the first layer alone has other tensors than all other layers of its kind."""
    values = layer_values(config, family, "it")
    shapes = [{name: tuple(each.shape) for name, each in layer.named_parameters()} for layer in layers_of(model, stack)]
    alike = [index for index in range(1, len(shapes)) if all(each[index] == each[0] for each in values.values())]
    return bool(alike) and all(shapes[index] != shapes[0] for index in alike)


def _is_sparse(name: str, whole: Mapping[str, Any]) -> bool:
    return name == "mlp_only_layers" and "decoder_sparse_step" in whole


def _kept_sets(depth: int, reached: int) -> list[tuple[int, ...]]:
    """Return two choices of layers, one with the last and one without; neither follows a period.

    Args:
        reached: how many of the first layers must be kept.
    """
    with_last = {*range(reached), 0, 2, 4, 5, *range(7, depth, 2), depth - 1}
    without_last = {*range(reached), 0, 1, 3, *range(6, depth - 1, 3)}
    return [tuple(sorted(layer for layer in kept if layer < depth)) for kept in (with_last, without_last)]
