"""A loaded pair taken apart: layers run one by one, and once for all models that begin alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from boomerang_cli.engine.errors import UnsupportedModelError
from boomerang_cli.engine.models.compose import LoadedPair, compose
from boomerang_cli.engine.models.head import Head
from boomerang_cli.engine.models.hidden_states import body_of, decoder_layers
from boomerang_cli.engine.output.plan import OWNERS
from boomerang_cli.engine.pair.layers import LayerSource, Owner

Step = tuple[LayerSource, ...]
"""The layers of one block: all of the teacher's, or the student's one."""
Label = TypeVar("Label")


@dataclass(frozen=True)
class Leaf(Generic[Label]):
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
        input_ids: int64 ``[batch, sequence]``.
        embedded: ``[batch, sequence, hidden]``, what enters the first layer, by the owner of the embedding.
        calls: one a layer of the teacher; a student's layer is called as the teacher layer that it stands for.
    """

    input_ids: Tensor
    embedded: dict[Owner, Tensor]
    calls: tuple[LayerCall, ...]


class Stages:
    """Runs the parts of models: embedding, layer after layer, final norm and head.

    Attributes:
        layer_passes: how many layers were run, each on one batch.
        block_passes: how many steps of models were run, each on one batch.
    """

    def __init__(self, loaded: LoadedPair) -> None:
        self.heads = {owner: Head.of(loaded.models[owner]) for owner in OWNERS}
        self.layer_passes = self.block_passes = 0
        self._layers = {owner: decoder_layers(loaded.models[owner], len(loaded.whole(owner))) for owner in OWNERS}
        self._bodies = {owner: _Body(loaded, owner) for owner in OWNERS}

    def begin(self, input_ids: Tensor) -> Batch:
        """Embed ``input_ids``, int64 ``[batch, sequence]`` without padding; no layer is run."""
        embedded, calls = {}, {}
        for owner in OWNERS:
            embedded[owner], calls[owner] = self._bodies[owner].record(input_ids)
        return Batch(input_ids, embedded, calls["teacher"])

    def run(self, step: Step, hidden: Tensor, batch: Batch) -> Tensor:
        """Return what leaves the layers of ``step`` when ``hidden`` enters them."""
        self.block_passes += 1
        for source in step:
            self.layer_passes += 1
            call = batch.calls[source.teacher_layer]
            output = self._layers[source.owner][source.index](hidden, *call.args, **call.kwargs)
            hidden = output[0] if isinstance(output, (tuple, list)) else output
        return hidden

    def finish(self, owner: Owner, hidden: Tensor, batch: Batch) -> Tensor:
        """Return what the owner's head takes, for what leaves the last layer."""
        return self._bodies[owner].finish(hidden, batch.input_ids)

    def walk(self, models: Sequence[tuple[Label, Sequence[Step]]], batch: Batch) -> Iterator[Leaf[Label]]:
        """Run models, each given by a label of the caller's and its steps, and yield where each ends.

        The models are walked as a tree: steps that several of them begin with are run once. Hidden states are held
        along one branch alone, one for each place where models part. The teacher's blocks are walked first: if the
        teacher itself is the first of the models, it is the first that is yielded.
        """
        ordered = sorted(models, key=lambda model: place_in_tree(model[1]), reverse=True)
        for owner, begun in groupby(ordered, key=lambda model: model[1][0][0].owner):
            yield from self._walk(list(begun), 0, batch.embedded[owner], batch)

    def _walk(
        self, models: Sequence[tuple[Label, Sequence[Step]]], depth: int, hidden: Tensor, batch: Batch
    ) -> Iterator[Leaf[Label]]:
        """Run on to where the models part: only there hidden states are held, until each has gone its way."""
        for place in range(depth, len(models[0][1])):
            branches = [(step, list(branch)) for step, branch in groupby(models, key=lambda model: model[1][place])]
            if len(branches) > 1:
                for step, branch in branches:
                    yield from self._walk(branch, place + 1, self.run(step, hidden, batch), batch)
                return
            hidden = self.run(branches[0][0], hidden, batch)
        owner = models[0][1][-1][-1].owner
        final = self.finish(owner, hidden, batch)
        for label, _ in models:
            yield Leaf(label, owner, final)


def place_in_tree(steps: Sequence[Step]) -> list[tuple[str, int]]:
    """Return what sorts models so that those which begin alike follow one another."""
    return [(step[0].owner, len(step)) for step in steps]


class _Body:
    """A model's body without its layers: what its code does before them, how it calls them, what it does after."""

    def __init__(self, loaded: LoadedPair, owner: Owner) -> None:
        sources = loaded.whole(owner)
        model = compose(loaded, sources)
        self._body = body_of(model)
        layers = decoder_layers(model, len(sources))
        beside = _given_beside(self._body, layers, loaded.device)
        self._stand_ins = [_StandIn(*each) for each in zip(layers, beside, strict=True)]
        for index, stand_in in enumerate(self._stand_ins):
            layers[index] = stand_in

    def record(self, input_ids: Tensor) -> tuple[Tensor, tuple[LayerCall, ...]]:
        """Return what enters the first layer, and each layer's call."""
        self._run(input_ids, None)
        hidden = self._stand_ins[0].hidden
        assert hidden is not None
        return hidden, tuple(stand_in.call for stand_in in self._stand_ins if stand_in.call)

    def finish(self, hidden: Tensor, input_ids: Tensor) -> Tensor:
        """Return what the body makes of what leaves its last layer: its code alone knows of norms without weights."""
        final: Tensor = self._run(input_ids, hidden).last_hidden_state
        return final

    def _run(self, input_ids: Tensor, given: Tensor | None) -> Any:
        for stand_in in self._stand_ins:
            stand_in.call = None
        self._stand_ins[-1].given = given
        return self._body(input_ids=input_ids, use_cache=False)


def _given_beside(body: nn.Module, layers: nn.ModuleList, device: torch.device) -> list[tuple[Any, ...] | None]:
    """Run a body on three tokens, and return what each layer returns beside hidden states; None: those alone."""
    beside: list[tuple[Any, ...] | None] = []

    def listen(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        beside.append(tuple(output[1:]) if isinstance(output, (tuple, list)) else None)

    hooks = [layer.register_forward_hook(listen) for layer in layers]
    with torch.no_grad():
        body(input_ids=torch.ones((1, 3), dtype=torch.long, device=device), use_cache=False)
    for hook in hooks:
        hook.remove()
    return beside


class _StandIn(nn.Module):
    """Stands in a layer's place: remembers its call, and lets hidden states through, or ``given`` ones out.

    Args:
        layer: whose attributes it shows to the body.
        beside: what the layer returns beside hidden states; None if it returns those alone.
    """

    def __init__(self, layer: nn.Module, beside: tuple[Any, ...] | None) -> None:
        super().__init__()
        self.layer = (layer,)  # in a tuple: none of its modules
        self.beside = beside
        self.given: Tensor | None = None
        self.hidden: Tensor | None = None
        self.call: LayerCall | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["layer"][0], name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.call is not None:
            raise UnsupportedModelError(
                f"{type(self.layer[0]).__name__} runs such long texts in pieces: give a shorter --sequence-length"
            )
        self.hidden, self.call = hidden_states, LayerCall(args, kwargs)
        output = hidden_states if self.given is None else self.given
        return output if self.beside is None else (output, *self.beside)
