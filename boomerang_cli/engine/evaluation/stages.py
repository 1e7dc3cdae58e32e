"""A loaded pair taken apart: layers run one by one, and once for all models that begin alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor, nn

from boomerang_cli.engine.models.compose import LoadedPair, compose, layer_list
from boomerang_cli.engine.models.head import Head
from boomerang_cli.engine.output.plan import OWNERS
from boomerang_cli.engine.pair.layers import LayerSource, Owner

Step = tuple[LayerSource, ...]
"""The layers of one block: all of the teacher's, or the student's one."""
Label = TypeVar("Label")


class Leaf(NamedTuple, Generic[Label]):
    """The end of a model: what its head takes, ``[batch, sequence, hidden]``, and whose head it is."""

    label: Label
    owner: Owner
    hidden: Tensor


@dataclass(frozen=True)
class LayerCall:
    """What a family's body passes to one of its layers beside hidden states: masks, positions."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """A batch of text, ready for the layers.

    Attributes:
        embedded: ``[batch, sequence, hidden]``, what enters the first layer, by the owner of the embedding.
        calls: one a layer of the teacher; a student's layer is called as the teacher layer that it stands for.
    """

    embedded: dict[Owner, Tensor]
    calls: tuple[LayerCall, ...]


class Stages:
    """Runs the parts of models: embedding, layer after layer, final norm and head.

    Attributes:
        layer_passes: how many layers were run, each on one batch.
        block_passes: how many steps of models were run, each on one batch.
    """

    def __init__(self, loaded: LoadedPair) -> None:
        family = loaded.pair.family
        self.heads = {owner: Head.of(loaded.models[owner]) for owner in OWNERS}
        self.layer_passes = self.block_passes = 0
        self._layers = {owner: layer_list(loaded.models[owner], family) for owner in OWNERS}
        self._recorders = {owner: _BodyRecorder(loaded, owner) for owner in OWNERS}
        self._after = {
            owner: [attrgetter(name.rstrip("."))(loaded.models[owner]) for name in family.body_after]
            for owner in OWNERS
        }

    def begin(self, input_ids: Tensor) -> Batch:
        """Embed ``input_ids``, int64 ``[batch, sequence]`` without padding; no layer is run."""
        embedded, calls = {}, {}
        for owner in OWNERS:
            embedded[owner], calls[owner] = self._recorders[owner].record(input_ids)
        return Batch(embedded, calls["teacher"])

    def run(self, step: Step, hidden: Tensor, batch: Batch) -> Tensor:
        """Return what leaves the layers of ``step`` when ``hidden`` enters them."""
        self.block_passes += 1
        for source in step:
            self.layer_passes += 1
            call = batch.calls[source.teacher_layer]
            hidden = self._layers[source.owner][source.index](hidden, *call.args, **call.kwargs)
        return hidden

    def finish(self, owner: Owner, hidden: Tensor) -> Tensor:
        """Return what the owner's head takes, for what leaves the last layer."""
        for module in self._after[owner]:
            hidden = hidden if module is None else module(hidden)
        return hidden

    def walk(self, models: Sequence[tuple[Label, Sequence[Step]]], batch: Batch) -> Iterator[Leaf[Label]]:
        """Run models, each given by a label of the caller's and its steps, and yield where each ends.

        The models are walked as a tree: steps that several of them begin with are run once. Hidden states are held
        along one branch alone. The teacher's blocks are walked first: if the teacher itself is the first of the models,
        it is the first that is yielded.
        """
        ordered = sorted(models, key=lambda model: [(step[0].owner, len(step)) for step in model[1]], reverse=True)
        for owner, begun in groupby(ordered, key=lambda model: model[1][0][0].owner):
            yield from self._walk(list(begun), 0, batch.embedded[owner], batch)

    def _walk(
        self, models: Sequence[tuple[Label, Sequence[Step]]], depth: int, hidden: Tensor, batch: Batch
    ) -> Iterator[Leaf[Label]]:
        if depth == len(models[0][1]):
            owner = models[0][1][-1][-1].owner
            final = self.finish(owner, hidden)
            for label, _ in models:
                yield Leaf(label, owner, final)
            return
        for step, branch in groupby(models, key=lambda model: model[1][depth]):
            yield from self._walk(list(branch), depth + 1, self.run(step, hidden, batch), batch)


class _BodyRecorder:
    """A model's body without its layers: embeds, and records how it would call them."""

    def __init__(self, loaded: LoadedPair, owner: Owner) -> None:
        model = compose(loaded, loaded.whole(owner))
        layers = layer_list(model, loaded.pair.family)
        self._recorders = [_LayerRecorder() for _ in layers]
        for index, recorder in enumerate(self._recorders):
            layers[index] = recorder
        self._body = model.base_model

    def record(self, input_ids: Tensor) -> tuple[Tensor, tuple[LayerCall, ...]]:
        self._body(input_ids=input_ids, use_cache=False)
        hidden = self._recorders[0].hidden
        assert hidden is not None
        return hidden, tuple(recorder.call for recorder in self._recorders if recorder.call)


class _LayerRecorder(nn.Module):
    """Stands in a layer's place, lets hidden states through, and remembers the call."""

    hidden: Tensor | None = None
    call: LayerCall | None = None

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.hidden, self.call = hidden_states, LayerCall(args, kwargs)
        return hidden_states
