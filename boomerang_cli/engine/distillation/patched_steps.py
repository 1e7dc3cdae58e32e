"""Which steps of a training run through a patched student, and which of its blocks are the teacher's then.

The student is distilled for the models between it and its teacher, so some steps train it as a part of one (module
replacing: arXiv 2002.02925). The draw is one a step, of all its sequences: then neither the micro-batches nor the
processes that share them decide about the result, and processes that split the models' layers (FSDP2) run the same ones
at the same time. AdamW's moments average over the draws of some ten to twenty steps anyway.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from boomerang_cli.engine.distillation.recipe import Recipe, Sampling, Schedule
from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.order import Order, find_order
from boomerang_cli.engine.pair.pair import Pair


@dataclass(frozen=True)
class PatchedSteps:
    """Draws from seed and step alone, so that a resumed training draws what the unbroken one would have.

    Attributes:
        order: in which the pair is patched.
        share: of the steps, 0 to 1.
        steps: of the training.

    Raises:
        TrainingError: a share of steps of a pair without a size between student and teacher.
    """

    layer_map: LayerMap
    order: Order
    share: float
    seed: int
    steps: int
    schedule: Schedule = "constant"
    sampling: Sampling = "mixed"

    def __post_init__(self) -> None:
        if self.share and len(self.layer_map.patchable) < 2:
            raise TrainingError(
                f"--patched-share {self.share}: for want of a second patchable block, this pair has no size between "
                "student and teacher: give --patched-share 0"
            )

    @classmethod
    def of(cls, recipe: Recipe, pair: Pair) -> PatchedSteps:
        """Return the steps of ``recipe`` for a pair, in the order that the student records, else the family's."""
        order = find_order("auto", pair.layer_map, pair.student_config.order, pair.family.order)
        return cls(
            pair.layer_map,
            order,
            recipe.patched_share,
            recipe.seed,
            recipe.total_steps,
            recipe.patched_schedule,
            recipe.patched_sampling,
        )

    def blocks(self, step: int) -> tuple[int, ...]:
        """Return the blocks that are the teacher's at ``step``, ascending: 1 to n - 1 of them, or none.

        The first step is the student's alone, so that the optimiser holds moments of every parameter from there on.

        Args:
            step: counted from 0.
        """
        draw = _draws(self.seed, step)
        if not (draw() < self._share_at(step) and step > 0):
            return ()
        k = 1 + int(draw() * (len(self.layer_map.patchable) - 1))
        in_order = self.sampling == "order" or (self.sampling == "mixed" and draw() < 0.5)
        if in_order:
            return self.order.blocks(k)
        return tuple(sorted(sorted(self.layer_map.patchable, key=lambda block: draw())[:k]))

    @property
    def heaviest(self) -> tuple[int, ...]:
        """The blocks of the step that takes most memory: gradients pass through all layers behind the first block."""
        return self.layer_map.patchable[1:] if self.share else ()

    def _share_at(self, step: int) -> float:
        done = step / max(1, self.steps - 1)
        return self.share * {"constant": 1.0, "rising": done, "falling": 1.0 - done}[self.schedule]


def _draws(seed: int, step: int) -> Callable[[], float]:
    """Return a source of numbers from 0 to below 1: the same in every process, and in every version of Python."""
    return random.Random(f"patched steps {seed} {step}").random
