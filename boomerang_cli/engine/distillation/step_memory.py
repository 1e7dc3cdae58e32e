"""What a step holds beside the weights: the step itself, run on tensors that have shapes and no memory."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, PreTrainedModel

from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.losses import distillation_loss
from boomerang_cli.engine.distillation.memory_plan import StepMemory
from boomerang_cli.engine.distillation.patched_steps import PatchedSteps
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.vocabulary_loss import default_chunk_bytes
from boomerang_cli.engine.models.compose import LoadedPair
from boomerang_cli.engine.models.loading import causal_class
from boomerang_cli.engine.models.patched_student import PatchedStudents
from boomerang_cli.engine.pair.layers import Owner
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.quiet import quiet_transformers

_CHUNKS_HELD = 5  # float32 copies of a chunk's logits at its peak, see ``vocabulary_loss``


@dataclass(frozen=True)
class StepOnNoMemory:
    """A step of a pair as a GPU runs it, in bfloat16, or as a CPU does, in float32.

    The kernels are those of a CPU in either case; a GPU's keep the same tensors. Attention in pieces (flash, flex) is
    counted as ``sdpa``, which keeps as much.
    """

    pair: Pair
    recipe: Recipe
    levers: Levers
    on_gpu: bool

    def memory(self, phase: Phase) -> StepMemory:
        """Return what the heaviest step of the phase holds; a rule of thumb where shapes depend on values."""
        embedding = self.pair.parts["teacher"].before[self.pair.family.embedding]
        chunk_bytes = default_chunk_bytes(embedding.parameters, "cuda" if self.on_gpu else "cpu")
        held = _CHUNKS_HELD * min(chunk_bytes, 4 * phase.sequence_length * self.pair.vocabulary_size)
        held *= phase.cross_entropy or phase.kl
        try:
            with warnings.catch_warnings(), quiet_transformers():
                warnings.simplefilter("ignore")
                one, two = self._peak_bytes(phase, chunk_bytes)
        except Exception:  # any of 150 types' code: experts choose by value, and values are what there is none of
            return self._estimate(phase, held)
        fixed = max(0, 2 * one - two)  # a chunk of logits that is longer than a sequence grows with their number
        return StepMemory(fixed, min(held, fixed), two - one)

    def _peak_bytes(self, phase: Phase, chunk_bytes: int) -> tuple[int, int]:
        """Return what one sequence takes, and two."""
        with FakeTensorMode(allow_non_fake_inputs=True):
            student, teacher = self._model("student"), self._model("teacher").requires_grad_(False)
            replace(self.levers, compile=False, attention=None).pull(student, teacher, self.pair.layer_map)
            for parameter in student.parameters():
                parameter.grad = torch.zeros_like(parameter)

            between = PatchedStudents(LoadedPair(self.pair, {"student": student, "teacher": teacher}))

            def step(sequences: int, patched: Collection[int]) -> None:
                input_ids = torch.zeros(sequences, phase.sequence_length, dtype=torch.int64)
                trained = between.model(patched) if patched else student
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.on_gpu, cache_enabled=False):
                    losses = distillation_loss(
                        trained,
                        teacher,
                        self.pair.layer_map,
                        input_ids,
                        cross_entropy=phase.cross_entropy,
                        kl=phase.kl,
                        cosine=phase.cosine,
                        alignment=self.recipe.alignment,
                        chunk_bytes=chunk_bytes,
                        patched=patched,
                    )
                losses.total.backward()  # type: ignore[no-untyped-call]

            heaviest = PatchedSteps.of(self.recipe, self.pair).heaviest
            kinds = [(), heaviest] if heaviest else [()]
            one, two = (
                max(rise_of(partial(step, sequences, each), (student, teacher)) for each in kinds)
                for sequences in (1, 2)
            )
            return one, two

    def _model(self, owner: Owner) -> PreTrainedModel:
        settings, _ = causal_class(self.pair.config(owner), self.pair.checkpoint(owner).name)
        dtype = torch.bfloat16 if self.on_gpu and owner == "teacher" else torch.float32
        attention = "eager" if self.levers.attention == "eager" else None
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            settings, dtype=dtype, **({"attn_implementation": attention} if attention else {})
        )  # type: ignore[no-untyped-call]
        model.eval()  # type: ignore[no-untyped-call]
        return model

    def _estimate(self, phase: Phase, held: int) -> StepMemory:
        """Return 34 bytes a hidden value of each layer and token in bfloat16 (arXiv 2205.05198, 4.1), else twice."""
        embedding = self.pair.parts["teacher"].before[self.pair.family.embedding]
        layers = self.pair.layer_map.student_layers
        kept = layers * 2 if self.levers.gradient_checkpointing else layers * (34 if self.on_gpu else 68)
        states = 6 * len(self.pair.layer_map.aligned_states)
        fixed = held + 4 * embedding.parameters + (2 * self.pair.parts["student"].parameters if self.on_gpu else 0)
        return StepMemory(fixed, held, (kept + states) * embedding.shape[-1] * phase.sequence_length, is_estimate=True)


def rise_of(function: Callable[[], None], models: Iterable[torch.nn.Module]) -> int:
    """Return how many bytes of tensors stand at the peak of a function, beside what the models hold before it."""
    with _Living(models) as living:
        function()
    peak: int = living.peak_bytes
    return peak


class _Living(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, from when they are made to when nobody holds them."""

    def __init__(self, models: Iterable[torch.nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = self._bytes = 0
        self._storages: set[int] = set()
        for model in models:
            for tensor in (*model.parameters(), *model.buffers()):
                self._storages.add(tensor.untyped_storage()._cdata)
                if tensor.grad is not None:
                    self._storages.add(tensor.grad.untyped_storage()._cdata)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            return
        self._storages.add(key)
        self._bytes += size
        self.peak_bytes = max(self.peak_bytes, self._bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self._bytes -= size
