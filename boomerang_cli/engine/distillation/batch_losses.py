"""The losses of a pair on some sequences: of a phase's parts, or the student's cross entropy alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from boomerang_cli.engine.distillation.losses import distillation_loss
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.progress import PARTS
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.sharding import with_whole_root
from boomerang_cli.engine.distillation.vocabulary_loss import Counted
from boomerang_cli.engine.pair.layers import LayerMap


@dataclass(frozen=True)
class BatchLosses:
    """Computes losses while the roots of both models are whole; the caller splits them again.

    Attributes:
        autocast: makes the context that the models compute in.
    """

    student: PreTrainedModel
    teacher: PreTrainedModel
    layer_map: LayerMap
    recipe: Recipe
    autocast: Callable[[], AbstractContextManager[Any]]

    def of_phase(
        self, phase: Phase, input_ids: torch.Tensor, counted: Counted | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss to differentiate, and ``[total, cross_entropy, kl, cosine]`` float32, detached.

        Args:
            input_ids: int64 ``[sequences, up to sequence_length]``.
            counted: what counts of them; None is every token.
        """
        return self._of(input_ids, counted, cross_entropy=phase.cross_entropy, kl=phase.kl, cosine=phase.cosine)

    def cross_entropy(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the student's mean cross entropy a token, a float32 scalar."""
        _, values = self._of(input_ids, None, cross_entropy=True, kl=False, cosine=False)
        return values[PARTS.index("cross_entropy")]

    def _of(self, input_ids: torch.Tensor, counted: Counted | None, **parts: bool) -> tuple[torch.Tensor, torch.Tensor]:
        values: list[torch.Tensor] = []

        def forward() -> torch.Tensor:
            with self.autocast():
                losses = distillation_loss(
                    self.student,
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
                )
            values.extend(getattr(losses, part).detach().float() for part in PARTS)
            total: torch.Tensor = losses.total
            return total

        def forward_beside_teacher() -> torch.Tensor:
            totals: list[torch.Tensor] = []
            # Nothing is returned through the teacher, so that no backward hook of its is put on the student's loss.
            with_whole_root(self.teacher, lambda: totals.append(forward()))
            return totals[0]

        needs_teacher = parts["kl"] or parts["cosine"]
        total = with_whole_root(self.student, forward_beside_teacher if needs_teacher else forward)
        return total, torch.stack(values)
