"""The layer-by-layer runner held against whole models, before a sweep rests on it."""

from __future__ import annotations

import torch

from boomerang_cli.engine.evaluation.stages import Stages
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.models.agreement import check_logits, refusing, tokens_for, whole_logits
from boomerang_cli.engine.models.compose import LoadedPair, compose


@torch.inference_mode()
def check_stages(loaded: LoadedPair) -> None:
    """Check on a few tokens that teacher, student and a model between them give the logits that they give whole.

    Raises:
        UnsupportedModelError: one does not, or layers of the type cannot be run one by one.
    """
    layer_map, teacher = loaded.pair.layer_map, loaded.models["teacher"]
    patchable = layer_map.patchable
    own = {(): loaded.models["student"], patchable: teacher}
    variants = [Variant(blocks) for blocks in dict.fromkeys([patchable, patchable[-1:], ()])]
    with refusing(teacher, loaded.pair.teacher.name, "scored"):
        stages, input_ids = Stages(loaded), tokens_for(teacher)
        models = [(variant, variant.steps(layer_map)) for variant in variants]
        for leaf in stages.walk(models, stages.begin(input_ids)):
            whole = own.get(leaf.label.blocks) or compose(loaded, leaf.label.sources(layer_map))
            check_logits(stages.heads[leaf.owner].logits(leaf.hidden), whole_logits(whole, input_ids))
