"""Which programs would misread sizes of a student that is to be made, by where its layers stand."""

from __future__ import annotations

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.layer_config import config_for_layers
from boomerang_cli.engine.checkpoint.readers import READERS, misreaders
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.order import Order


def misread_sizes(teacher: Checkpoint, family: Family, layer_map: LayerMap) -> dict[str, tuple[str, ...]]:
    """Return what programs suppose of the layers of some size and is not so (see ``readers.misreaders``).

    Sizes are those of the family's order. What is not so of the teacher itself, and whether sizes are tied, is left
    out: no choice of layers changes that.
    """
    text_type = family.text_config(teacher.config).get("model_type")
    if text_type not in READERS:
        return {}
    sets = Order.of_sequence(family.order, layer_map.order(family.order)).sets[:-1]
    found: dict[str, tuple[str, ...]] = {}
    for blocks in sets:
        layers = [source.teacher_layer for source in layer_map.sources(blocks)]
        found |= misreaders(config_for_layers(teacher.config, family, layers, teacher.name))
    whole = misreaders(config_for_layers(teacher.config, family, range(layer_map.teacher_layers), teacher.name))
    return {supposed: programs for supposed, programs in found.items() if supposed not in whole}
