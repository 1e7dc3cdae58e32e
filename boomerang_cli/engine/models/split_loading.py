"""Which models can be read by rows: each process makes its part of a model of nothing but that part of the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter

from boomerang_cli.engine.models.loading import causal_class
from boomerang_cli.engine.quiet import quiet_transformers


def reads_by_rows(config: Mapping[str, Any], name: str, processes: int) -> bool:
    """Tell whether transformers fills a model that is split by rows with the rows of its files alone.

    It does for a tensor that stands in the files as it is, under whatever name, and for experts that stand there one by
    one: each is read whole by the process that holds it. Whatever else is made of several tensors, or cut out of one
    (query, key and value in one matrix), is not cut where the model is: such a model is to be loaded whole.

    Args:
        name: of the model, for errors (as in ``loading.causal_class``).
    """
    settings, family = causal_class(config, name)
    with quiet_transformers(), torch.device("meta"):
        model = family(settings)
        converters = [each for each in get_model_conversion_mapping(model) if isinstance(each, WeightConverter)]
    experts = {len(parameter) for parameter in model.parameters() if parameter.dim() == 3} if converters else set()
    return all(map(_stacks, converters)) and all(_has_a_row_each(rows, processes) for rows in experts)


def _stacks(converter: WeightConverter) -> bool:
    """Tell whether a conversion stacks tensors, and at most joins such stacks across their rows."""
    first, *others = converter.operations
    stacks = isinstance(first, MergeModulelist) and first.dim == 0
    return stacks and all(isinstance(each, Concatenate) and each.dim > 0 for each in others)


def _has_a_row_each(rows: int, processes: int) -> bool:
    """Tell whether each process gets a row: transformers cannot make a stack of none."""
    return -(-rows // processes) * (processes - 1) < rows
