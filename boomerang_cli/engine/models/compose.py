"""Models of every size in memory from one loaded pair: each has modules of its own, and shares the pair's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from boomerang_cli.engine.checkpoint.class_config import as_transformers_config
from boomerang_cli.engine.checkpoint.derivation.blank_model import names_of
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.layer_config import config_for_layers
from boomerang_cli.engine.models.hidden_states import layers_prefix
from boomerang_cli.engine.models.loading import load_model
from boomerang_cli.engine.models.places import Places
from boomerang_cli.engine.output.plan import OWNERS
from boomerang_cli.engine.pair.layers import LayerSource, Owner
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.quiet import quiet_transformers


@dataclass(frozen=True)
class LoadedPair:
    """A student and its teacher in memory; as ``load_pair`` loads them, or as they are trained.

    Attributes:
        places: of their layers, where these are on several devices.
    """

    pair: Pair
    models: Mapping[Owner, PreTrainedModel]
    places: Places | None = None

    @property
    def device(self) -> torch.device:
        device: torch.device = self.models["teacher"].device
        return device

    def whole(self, owner: Owner) -> tuple[LayerSource, ...]:
        """Return the layers of the teacher or the student itself."""
        kept = range(self.pair.layer_map.teacher_layers) if owner == "teacher" else self.pair.layer_map.kept
        return tuple(LayerSource(owner, index, layer) for index, layer in enumerate(kept))


def load_pair(
    pair: Pair, *, dtype: torch.dtype, device: torch.device | str = "cpu", places: Places | None = None
) -> LoadedPair:
    """Load both models of a pair: in evaluation mode, without gradients, in one dtype.

    Args:
        places: of their layers, in place of ``device``.

    Raises:
        UnsupportedModelError, CheckpointError: see ``loading.load_model``.
    """
    models: dict[Owner, PreTrainedModel] = {}
    loaded = LoadedPair(pair, models, places)
    for owner in OWNERS:
        checkpoint, config, layers = pair.checkpoint(owner), pair.config(owner), loaded.whole(owner)
        device_map = places.device_map(config, checkpoint.name, layers) if places else None
        model = load_model(checkpoint, config, dtype=dtype, device=device, device_map=device_map)
        if places:
            places.hold(model, layers)
        models[owner] = model.requires_grad_(False)
    return loaded


def compose(loaded: LoadedPair, sources: Sequence[LayerSource]) -> PreTrainedModel:
    """Return the model that has these layers, as if it had been written by ``patch`` and loaded again.

    Its modules are made for its own configuration, so masks, rotary embeddings and places in the key-value cache are
    those of the written model; weights and buffers are the pair's own tensors, none is copied. What stands before
    the layers is that of the first layer's owner, what follows them that of the last layer's (SPEC.md, rule 3).
    """
    model = blank_model(loaded, sources)
    for name, (owner, own_name) in origins(model, loaded.pair.family, sources).items():
        set_tensor(model, name, get_tensor(loaded.models[owner], own_name))
    model.generation_config = loaded.models["teacher"].generation_config
    if loaded.places:
        loaded.places.hold(model, sources)
    model.requires_grad_(False)
    return model


def blank_model(loaded: LoadedPair, sources: Sequence[LayerSource]) -> PreTrainedModel:
    """Return the model that has these layers as ``patch`` configures it, without memory, in evaluation mode."""
    pair, first, last = loaded.pair, sources[0].owner, sources[-1].owner
    layers = [source.teacher_layer for source in sources]
    settings = config_for_layers(pair.teacher.config, pair.family, layers, pair.teacher.name)
    # A head beside another model's embedding stands on its own, however often `tie_weights()` is called.
    settings["tie_word_embeddings"] = first == last and pair.parts[first].tied
    config = as_transformers_config(settings)
    teacher = loaded.models["teacher"]
    with torch.device("meta"), quiet_transformers():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=teacher.dtype, attn_implementation=teacher.config._attn_implementation
        )
    model.train(False)
    return model


def origins(model: PreTrainedModel, family: Family, sources: Sequence[LayerSource]) -> dict[str, tuple[Owner, str]]:
    """Return of each parameter and buffer of a composed model whose it is, and its name there; of tied ones, both."""
    prefix, origin = layers_prefix(model, len(sources)), _origins(model, family)
    found: dict[str, tuple[Owner, str]] = {}
    for name, is_computed in _tensor_names(model):
        if name.startswith(prefix):
            index, _, rest = name.removeprefix(prefix).partition(".")
            source = sources[int(index)]
            found[name] = source.owner, f"{prefix}{source.index}.{rest}"
        else:
            found[name] = origin(name, is_computed, sources[0].owner, sources[-1].owner), name
    return found


def _tensor_names(model: nn.Module) -> Iterator[tuple[str, bool]]:
    """Yield the name of each parameter and buffer, and whether it is in no file; of tied ones, both names."""
    saved = model.state_dict().keys()
    yield from [(name, False) for name, _ in model.named_parameters(remove_duplicate=False)]
    yield from [(name, name not in saved) for name, _ in model.named_buffers(remove_duplicate=False)]


def _origins(model: PreTrainedModel, family: Family) -> Callable[[str, bool, Owner, Owner], Owner]:
    """Return what tells which model a tensor beside the layers belongs to, by its name in the modules."""
    to_disk = names_of(model).to_disk

    def origin(name: str, is_computed: bool, first: Owner, last: Owner) -> Owner:
        if name.startswith(family.before) or to_disk(name).startswith(family.before):
            return first
        return "teacher" if is_computed else last  # rotary frequencies: the teacher's serve layers of every kind

    return origin


def get_tensor(model: nn.Module, name: str) -> Tensor:
    tensor = model
    for attribute in name.split("."):
        tensor = getattr(tensor, attribute)
    assert isinstance(tensor, Tensor)
    return tensor


def set_tensor(model: nn.Module, name: str, tensor: Tensor) -> None:
    module, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(module), attribute, tensor)
