"""A model's weights drawn at random: planned as if they were copied, with other tensors to copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.checkpoint import read_checkpoint
from boomerang_cli.engine.checkpoint.dtypes import CONFIG_NAMES
from boomerang_cli.engine.checkpoint.families import MASKED, Family
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.quiet import quiet_transformers


def with_random_weights(plan: Plan, family: Family, folder: Path, max_shard_size: str) -> Plan:
    """Return the same plan with each tensor drawn anew as transformers initialises it; they stand in ``folder``.

    Raises:
        CheckpointError: the model's class does not have one of the tensors.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForPreTraining

    from boomerang_cli.engine.checkpoint.class_config import as_transformers_config
    from boomerang_cli.engine.models.saving import save_by_names

    settings = as_transformers_config(plan.config)
    # What is trained on masked words is stored with all of its heads, and the pooler.
    kind: Any = AutoModelForPreTraining if settings.model_type in MASKED else AutoModelForCausalLM
    if family.wrapper:
        kind = AutoModelForImageTextToText
    torch.manual_seed(0)
    with quiet_transformers():
        model = kind.from_config(settings, dtype=torch.float32)
        dtypes = {copy.dtype for copy in plan.copies} & CONFIG_NAMES.keys()
        model.to(getattr(torch, CONFIG_NAMES[dtypes.pop()] if len(dtypes) == 1 else "bfloat16"))
        save_by_names(model, folder, [copy.name for copy in plan.copies], max_shard_size)
    drawn = read_checkpoint(folder).tensors
    if family.tied_bias and family.tied_bias[1] in drawn:
        drawn = {family.tied_bias[0]: drawn[family.tied_bias[1]], **drawn}
    for copy in plan.copies:
        if copy.name not in drawn:
            raise CheckpointError(
                f"{copy.source.file} holds {copy.source.name}, which {type(model).__name__} of transformers does not "
                "have: it cannot be drawn at random, leave --random-init out"
            )
    return plan.with_tensors(drawn)
