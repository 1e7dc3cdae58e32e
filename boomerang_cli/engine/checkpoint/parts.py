"""A checkpoint's tensors, taken apart: what runs before the layers, each layer, and what runs after them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from sys import intern
from typing import Any

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.families import PREDICTION_LAYERS, Family
from boomerang_cli.engine.checkpoint.foreign import refuse_quantised, refuse_wrapped
from boomerang_cli.engine.checkpoint.layer_config import layer_values, whole_number
from boomerang_cli.engine.checkpoint.same_bytes import is_remote
from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.checkpoint.ties import has_own_head, is_tied
from boomerang_cli.engine.errors import CheckpointError

_OLD_ENDINGS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


@dataclass(frozen=True)
class Parts:
    """One model's tensors by name, with the family's full names whatever the files leave out.

    Attributes:
        layers: a mapping for each layer; its names are those behind ``<layers path>.<index>.``.
        after: final norm and head; a tied model's head is not in it, even if its files hold a copy.
        tied: whether the head is the embedding matrix.
        presumed: the embedding, and a copy of it as the head, that were compared in samples alone, on the Hub.
    """

    before: Mapping[str, Tensor]
    layers: tuple[Mapping[str, Tensor], ...]
    after: Mapping[str, Tensor]
    tied: bool
    presumed: tuple[Tensor, Tensor] | None = None

    @property
    def parameters(self) -> int:
        return sum(tensor.parameters for tensor in self._tensors)

    @property
    def size_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self._tensors)

    @property
    def _tensors(self) -> Iterator[Tensor]:
        return (tensor for part in (self.before, *self.layers, self.after) for tensor in part.values())

    def untied(self, family: Family) -> Parts:
        """Return the same model with its head on its own: of a tied model that is its embedding once more."""
        if not self.tied:
            return self
        after = {**self.after, family.head: self.before[family.embedding]}
        if family.tied_bias and family.tied_bias[1] in after:
            after.setdefault(family.tied_bias[0], after[family.tied_bias[1]])
        return replace(self, after=after, tied=False)

    def named(self, family: Family) -> dict[str, Tensor]:
        """Return all tensors by their full names."""
        layers = {
            f"{family.layers}{index}.{name}": tensor
            for index, layer in enumerate(self.layers)
            for name, tensor in layer.items()
        }
        return {**self.before, **layers, **self.after}


def around_layers(first: Parts, last: Parts, family: Family) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], bool]:
    """Return what stands before the layers of a model and behind them, and whether its head is its embedding.

    Args:
        first, last: the owners of its first and of its last layer (rules 3 and 4 of SPEC.md).
    """
    tied = first is last and first.tied  # beside another's embedding a head must stand alone
    return first.before, last.after if tied else last.untied(family).after, tied


def take_apart(checkpoint: Checkpoint, family: Family) -> Parts:
    """Sort a checkpoint's tensors into parts, and check from headers alone that none is missing or left over.

    Raises:
        CheckpointError: names the first tensor that is missing, left over, or of a shape that contradicts the others.
        UnsupportedModelError: quantised weights, or a value of ``config.json`` that is not of the kind that it must be.
    """
    refuse_wrapped(checkpoint.tensors, checkpoint.name)
    tensors = _without_dropped(_full_names(checkpoint, family), family)
    refuse_quantised(tensors, checkpoint.config, checkpoint.files, checkpoint.name)
    depth = family.teacher_depth(checkpoint.config)
    if depth > len(checkpoint.tensors):  # said before a list of so many layers is made
        raise CheckpointError(
            f"{checkpoint.name} holds {len(checkpoint.tensors)} tensors, and its config.json counts {depth} layers"
        )
    text = family.text_config(checkpoint.config)
    extra = max(whole_number(text, field, 0) for field in PREDICTION_LAYERS)
    tensors, tied = _tie(tensors, checkpoint.config, family)
    before: dict[str, Tensor] = {}
    after: dict[str, Tensor] = {}
    layers: list[dict[str, Tensor]] = [{} for _ in range(depth)]
    # An index has one spelling: "03" or another script's digits would be layer 3 a second time.
    layer_name = re.compile(rf"{re.escape(family.layers)}(0|[1-9][0-9]{{0,8}})\.(.+)", re.DOTALL)
    for name, tensor in tensors.items():
        if match := layer_name.fullmatch(name):
            index = int(match[1])
            if index < depth:
                layers[index][intern(match[2])] = tensor  # each layer has the same names
            elif index >= depth + extra:
                raise CheckpointError(
                    f"{checkpoint.name} holds {tensor.name}, but its config.json counts {depth} layers"
                )
        elif name.startswith(family.before):
            before[name] = tensor
        elif tied and name == family.head:
            continue  # a copy of the embedding
        elif name.startswith(family.after):
            after[name] = tensor
        else:
            model_type = checkpoint.config.get("model_type")
            raise CheckpointError(
                f"{checkpoint.name} holds {tensor.name}, which {model_type} models do not have: "
                "load the model with transformers and save it again, if the tensor does not matter"
            )
    parts = Parts(before, tuple(layers), after, tied, _presumed(tensors, family) if tied else None)
    _check_complete(checkpoint, family, parts)
    return parts


def _tie(tensors: Mapping[str, Tensor], config: Mapping[str, Any], family: Family) -> tuple[Mapping[str, Tensor], bool]:
    """Decide whether embedding and head are one matrix, and put it where a family's tied models have it."""
    if not is_tied(config, family):
        return tensors, False
    if family.embedding not in tensors and family.head in tensors:  # either is read as both
        tensors = {family.embedding if name == family.head else name: tensor for name, tensor in tensors.items()}
    if not has_own_head(tensors, family):
        return tensors, True
    if family.tied_bias and family.tied_bias[1] in tensors:
        name, source = family.tied_bias
        tensors = {name: tensors[source], **tensors}
    return tensors, False


def _presumed(tensors: Mapping[str, Tensor], family: Family) -> tuple[Tensor, Tensor] | None:
    """Return a tied model's two matrices if they have not been compared whole."""
    embedding, head = tensors.get(family.embedding), tensors.get(family.head)
    return (embedding, head) if embedding and head and is_remote(embedding, head) else None


def _without_dropped(tensors: Mapping[str, Tensor], family: Family) -> Mapping[str, Tensor]:
    dropped = [re.compile(pattern) for pattern in family.dropped]
    return {name: tensor for name, tensor in tensors.items() if not any(each.search(name) for each in dropped)}


def _full_names(checkpoint: Checkpoint, family: Family) -> Mapping[str, Tensor]:
    """Give tensors the names that transformers reads them by, where files leave out a prefix or are older."""
    if family.wrapper and not any(name.startswith(family.layers) for name in checkpoint.tensors):
        return {family.wrapper.spelled(name): tensor for name, tensor in checkpoint.tensors.items()}
    lacking = lacking_prefix(checkpoint.tensors, family.base)
    outside = tuple(name for name in family.after if not name.startswith(family.base))
    named: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        full = _present_name(name if not lacking or name.startswith(outside) else lacking + name)
        if named.setdefault(full, tensor) is not tensor:
            raise CheckpointError(f"{checkpoint.name} holds {name} and {named[full].name}, two names of one tensor")
    return named


def lacking_prefix(names: Collection[str], base: str) -> str:
    """Return what of the body's prefix is not there, in files that were saved from the body alone."""
    cuts = [0, *(cut for cut, letter in enumerate(base, 1) if letter == ".")]
    return next(base[:cut] for cut in cuts if any(name.startswith(base[cut:]) for name in names))  # the last fits all


def _present_name(name: str) -> str:
    """Return a name as it is now: a norm's weights are called as in TensorFlow in files of the first BERTs."""
    old = next((each for each in _OLD_ENDINGS if name.endswith(each)), None)
    return name.removesuffix(old) + _OLD_ENDINGS[old] if old else name


def _check_complete(checkpoint: Checkpoint, family: Family, parts: Parts) -> None:
    needed = [family.embedding, *([] if parts.tied else [family.head])]
    found = {**parts.before, **parts.after}
    if missing := [name for name in needed if name not in found]:
        raise CheckpointError(f"{checkpoint.name} lacks the tensor {missing[0]}")
    if family.final_norm and not any(name.startswith(family.final_norm) for name in parts.after):
        raise CheckpointError(f"{checkpoint.name} lacks the tensors {family.final_norm}*")
    vocabulary = family.text_config(checkpoint.config).get("vocab_size")
    for name in needed:
        rows = found[name].shape[:1]
        if isinstance(vocabulary, int) and rows != (vocabulary,) and not (family.more_rows and rows > (vocabulary,)):
            raise CheckpointError(
                f"{checkpoint.name}: {name} has the shape {list(found[name].shape)}, "
                f"config.json the vocab_size {vocabulary}"
            )
    if empty := [index for index, layer in enumerate(parts.layers) if not layer]:
        raise CheckpointError(f"{checkpoint.name} lacks the tensors {family.layers}{empty[0]}.*")


def check_layers_alike(checkpoint: Checkpoint, family: Family, parts: Parts) -> None:
    """Compare a whole teacher's layers with one another: those of one kind hold tensors of the same names and shapes.

    Two layers are of one kind if every per-layer field of ``config.json`` says the same of both.

    Raises:
        CheckpointError: names the first layer that differs, and in what.
        UnsupportedModelError: a per-layer field that cannot be used.
    """
    values = layer_values(checkpoint.config, family, checkpoint.name)
    first_of_kind: dict[str, int] = {}
    for index, layer in enumerate(parts.layers):
        apart = (family.first_apart and index == 0, family.last_apart and index == len(parts.layers) - 1)
        kind = repr([apart, *(each[index] for each in values.values())])
        like = first_of_kind.setdefault(kind, index)
        if problem := difference(layer, parts.layers[like]):
            raise CheckpointError(f"{checkpoint.name}: layer {index} is not like layer {like}: {problem}")


def difference(layer: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Say in what names or shapes a layer differs from another, or None."""
    if missing := expected.keys() - layer.keys():
        return f"{min(missing)} is missing"
    if unknown := layer.keys() - expected.keys():
        return f"{min(unknown)} is left over"
    for name, tensor in sorted(layer.items()):
        if tensor.shape != expected[name].shape:
            return f"{name} has the shape {list(tensor.shape)}, not {list(expected[name].shape)}"
    return None
