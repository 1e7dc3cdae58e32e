"""A configuration as its class in transformers reads it; what ``config.json`` leaves out is decided there.

transformers is imported where a function needs it: a type whose files say all is handled without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from boomerang_cli.engine.errors import UnsupportedModelError


def as_transformers_config(config: Mapping[str, Any]) -> Any:
    """Return the configuration object of a ``config.json``, without anything in it that makes readers fetch code."""
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    from boomerang_cli.engine.quiet import quiet_transformers

    # A repository may name code to fetch: a class of its own, or a kernel from the Hub.
    plain = {key: value for key, value in config.items() if key != "auto_map" and not key.endswith("_implementation")}
    # Infinity stands as {"__float__": "Infinity"}; AutoConfig reads it, from_dict does not.
    decode = getattr(PreTrainedConfig, "_decode_special_floats", dict)
    with quiet_transformers():  # classes warn of fields that have new names, and of tokens that differ from defaults
        return CONFIG_MAPPING[config["model_type"]].from_dict(decode(plain))


def completed_config(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the values of a ``config.json`` with those that its class adds, as JSON would hold them.

    Raises:
        UnsupportedModelError: the installed transformers has no such class, or refuses the values; ``name`` is the
            model's.
    """
    try:
        return _completed(json.dumps(config, sort_keys=True))
    except Exception as error:  # whatever a class raises for values that it does not expect
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnsupportedModelError(f"{name}: transformers cannot read its config.json: {reason}") from None


@lru_cache(maxsize=16)
def _completed(config: str) -> Mapping[str, Any]:
    made = as_transformers_config(json.loads(config)).to_dict()
    content: Mapping[str, Any] = json.loads(json.dumps(made, default=str))
    return content
