"""The losses of a pair on some sequences: of a phase's parts, or the student's cross entropy alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from boomerang_cli.engine.distillation.losses import DistillationLosses, distillation_loss
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.sharding import with_whole_root
from boomerang_cli.engine.distillation.vocabulary_loss import Counted
from boomerang_cli.engine.models.patched_student import PatchedStudents
from boomerang_cli.engine.pair.layers import LayerMap


@dataclass(frozen=True)
class BatchLosses:
    """Computes losses while the roots of both models are whole; the caller splits them again.

    Attributes:
        autocast: makes the context that the models compute in.
        between: what gives the models in between, for a training that has steps of them.
    """

    student: PreTrainedModel
    teacher: PreTrainedModel
    layer_map: LayerMap
    recipe: Recipe
    autocast: Callable[[], AbstractContextManager[Any]]
    between: PatchedStudents | None = None

    def of_phase(
        self,
        phase: Phase,
        input_ids: torch.Tensor,
        counted: Counted | None = None,
        patched: Collection[int] = (),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss to differentiate, and it and its three parts, float32 ``[4]``, detached.

        Args:
            input_ids: int64 ``[sequences, up to sequence_length]``.
            counted: what counts of them; None is every token.
            patched: blocks that are the teacher's; so it is the loss of a model of ``between``.
        """
        return self._of(
            input_ids, counted, patched, cross_entropy=phase.cross_entropy, kl=phase.kl, cosine=phase.cosine
        )

    def cross_entropy(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the student's mean cross entropy a token, a float32 scalar."""
        _, values = self._of(input_ids, None, (), cross_entropy=True, kl=False, cosine=False)
        return values[DistillationLosses._fields.index("cross_entropy")]

    @property
    def of_teacher(self) -> BatchLosses:
        """Return what computes the teacher's own cross entropy."""
        layers = self.layer_map.teacher_layers
        return replace(self, student=self.teacher, layer_map=LayerMap(layers, tuple(range(layers))))

    def _of(
        self, input_ids: torch.Tensor, counted: Counted | None, patched: Collection[int], **parts: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        values: list[torch.Tensor] = []

        def forward() -> torch.Tensor:
            with self.autocast():
                losses = distillation_loss(
                    self._trained(patched),
                    self.teacher,
                    self.layer_map,
                    input_ids,
                    counted=counted,
                    kl_weight=self.recipe.kl_weight,
                    cosine_weight=self.recipe.cosine_weight,
                    temperature=self.recipe.temperature,
                    cross_entropy=parts["cross_entropy"],
                    kl=parts["kl"],
                    cosine=parts["cosine"],
                    alignment=self.recipe.alignment,
                    patched=patched,
                )
            values.extend(value.detach().float() for value in losses)
            total: torch.Tensor = losses.total
            return total

        def forward_beside_teacher() -> torch.Tensor:
            totals: list[torch.Tensor] = []
            # Nothing is returned through the teacher, so that no backward hook of its is put on the student's loss.
            with_whole_root(self.teacher, lambda: totals.append(forward()))
            return totals[0]

        needs_teacher = parts["kl"] or parts["cosine"] or patched
        total = with_whole_root(self.student, forward_beside_teacher if needs_teacher else forward)
        return total, torch.stack(values)

    def _trained(self, patched: Collection[int]) -> PreTrainedModel:
        """Return the student, or the model that it is a part of; to be asked for while both roots are whole."""
        if not patched:
            return self.student
        assert self.between is not None
        return self.between.model(patched)
