"""A family held against what transformers builds: the shorter model's layers must be those of their origins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from boomerang_cli.engine.checkpoint.class_config import as_transformers_config, completed_config
from boomerang_cli.engine.checkpoint.derivation.blank_model import build, difference, layers_of, signatures
from boomerang_cli.engine.checkpoint.derivation.refusal import NotDerivableError
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.layer_config import config_for_layers, layer_lists
from boomerang_cli.engine.errors import UnsupportedModelError
from boomerang_cli.engine.quiet import quiet_transformers


def check_sharing(model: Any, stack: str) -> None:
    """Refuse layers that share weights with one another.

    Raises:
        NotDerivableError: they do.
    """
    owners: dict[int, int] = {}
    for index, layer in enumerate(layers_of(model, stack)):
        if any(owners.setdefault(id(parameter), index) != index for parameter in layer.parameters()):
            raise NotDerivableError("they share weights with one another")


def check_kept(config: Mapping[str, Any], family: Family, stack: str, kept: Sequence[int]) -> None:
    """Compare the layers of a model of some layers, as the family configures it (error of :func:`check_layers`)."""
    try:
        shorter = config_for_layers(config, family, kept, "it")
    except UnsupportedModelError as error:
        raise NotDerivableError(str(error)) from None
    check_layers(config, shorter, family, stack, kept)


def check_layers(
    config: Mapping[str, Any], shorter: Mapping[str, Any], family: Family, stack: str, kept: Sequence[int]
) -> None:
    """Compare each layer of the model of some layers with the layer that it stands for in the whole one.

    Args:
        config, shorter: ``config.json`` of both.
        stack: what stands before the layers' numbers in the modules' names.

    Raises:
        NotDerivableError: names the first that differs, and in what.
    """
    listed = ",".join(map(str, kept))
    try:
        model = build(shorter)
    except Exception as error:  # whatever a class raises for values that it does not expect
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise NotDerivableError(f"transformers refuses the configuration of layers {listed}: {reason[:120]}") from None
    ours, as_ours = _both_signatures(model, stack)
    theirs, as_theirs = _whole_signatures(json.dumps(config), stack)
    if len(ours) != len(kept):
        raise NotDerivableError(f"the class makes {len(ours)} layers of {len(kept)}")
    # A list may have the model's length by chance, and then says the same of every layer.
    for index, layer in enumerate(kept):
        if ours[index] != theirs[layer] and as_ours[index] != as_theirs[layer]:
            how = difference(theirs[layer], ours[index])
            raise NotDerivableError(f"layer {layer} is another as layer {index}: {how}")
    said, lists = family.text_config(completed_config(shorter, "it")), layer_lists(config, family, "it")
    for field, values in lists.items():
        changed = said.get(field)
        if changed is not None and changed != [values[layer] for layer in kept]:
            raise NotDerivableError(f"transformers changes {field} of layers {listed} to {changed}")
    section = family.wrapper.section if family.wrapper else None
    with quiet_transformers():  # it warns of properties that are going to leave
        _check_computed(_settings(config, section), _settings(shorter, section), kept)


@lru_cache(maxsize=1)
def _whole_signatures(config: str, stack: str) -> tuple[list[Any], list[Any]]:
    return _both_signatures(build(json.loads(config)), stack)


def _both_signatures(model: Any, stack: str) -> tuple[list[Any], list[Any]]:
    return signatures(model, stack), signatures(model, stack, follow_layers=False)


def _settings(config: Mapping[str, Any], section: str | None) -> Any:
    settings = as_transformers_config(config)
    return getattr(settings, section) if section else settings


def _check_computed(whole: Any, short: Any, kept: Sequence[int]) -> None:
    """Compare the lists that a configuration class computes, one value a layer, without holding them."""
    for name in dir(type(whole)):
        if name.startswith("_") or not isinstance(getattr(type(whole), name, None), property):
            continue
        try:
            full, cut = getattr(whole, name), getattr(short, name)
        except Exception:  # properties that such a model does not have
            continue
        both = isinstance(full, (list, tuple)) and isinstance(cut, (list, tuple))
        per_layer = both and len(cut) == len(kept) and len(full) > max(*kept, len(kept))
        if per_layer and list(cut) != [full[layer] for layer in kept]:
            raise NotDerivableError(f"the configuration's {name} does not follow the layers")
