"""What a distillation is made of: every value that decides the result."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import accumulate
from typing import Any, Literal, get_args

from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.errors import TrainingError, check_above_zero, check_least, flag_of

DEFAULT_DATA = ("EleutherAI/the_pile_deduplicated",)
Alignment = Literal["cosine", "relative"]
"""How far aligned states are from one another: 1 - cos, or the relative squared error."""
Schedule = Literal["constant", "rising", "falling"]
"""Of a share of the steps: the same at all of them; from 0 at the first to itself at the last; the other way round."""
Sampling = Literal["mixed", "order", "random"]
"""Of k blocks: the first in the order that the pair is patched in; any; either, half of the time each."""

_LEAST = {
    "steps": 0,
    "batch_size": 1,
    "sequence_length": 2,
    "sft_steps": 0,
    "sft_batch_size": 1,
    "sft_sequence_length": 2,
    "weight_decay": 0,
    "kl_weight": 0,
    "cosine_weight": 0,
}
_ABOVE_ZERO = ("learning_rate", "temperature", "max_grad_norm")
_NAMED: Mapping[str, tuple[str, ...]] = {
    "alignment": get_args(Alignment),
    "patched_schedule": get_args(Schedule),
    "patched_sampling": get_args(Sampling),
}


@dataclass(frozen=True)
class Recipe:
    """The published students' recipe, unless told otherwise (FACTS.md 1).

    What only decides how fast the result is reached, such as the micro-batch size, is not part of it.

    Attributes:
        text_column: of rows of text, the one that holds it.
        steps: on text, where every token counts.
        batch_size: sequences in one step of the optimiser, over all processes.
        sequence_length: tokens in a sequence.
        sft_data: conversations, whose responses alone count.
        sft_columns: of their rows, one with messages or those of prompt and response; empty looks for the usual ones.
        sft_steps, sft_batch_size, sft_sequence_length: on conversations, after the text.
        sft_kl: whether the KL divergence belongs to the loss there, if it does at all.
        warmup_ratio: the share of all steps over which the learning rate rises.
        cosine_weight: the total over all aligned states.
        alignment: what is taken of aligned states, with that weight.
        patched_share: of the steps, those that train the student as a part of a model in between; 0 to 1.
        patched_schedule, patched_sampling: of that share, and of the blocks that are the teacher's in such a step.
        repeat: whether a text that is too short is read again.

    Raises:
        TrainingError: a value with which nothing can be trained.
    """

    data: tuple[str, ...] = DEFAULT_DATA
    eval_data: tuple[str, ...] = ()
    text_column: str = "text"
    steps: int = 500
    batch_size: int = 2048
    sequence_length: int = 2048
    sft_data: tuple[str, ...] = ()
    sft_columns: tuple[str, ...] = ()
    sft_steps: int = 0
    sft_batch_size: int = 2048
    sft_sequence_length: int = 2048
    sft_kl: bool = True
    learning_rate: float = 3e-4
    warmup_ratio: float = 0.01
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    kl_weight: float = 0.1
    cosine_weight: float = 2.0
    temperature: float = 1.0
    cross_entropy: bool = True
    kl: bool = True
    cosine: bool = True
    alignment: Alignment = "cosine"
    patched_share: float = 0.0
    patched_schedule: Schedule = "constant"
    patched_sampling: Sampling = "mixed"
    seed: int = 0
    repeat: bool = False

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            check_least(least, TrainingError, **{name: getattr(self, name)})
        self._check_phases()
        check_above_zero(TrainingError, **{name: getattr(self, name) for name in _ABOVE_ZERO})
        if not 0 <= self.warmup_ratio < 1:
            raise TrainingError(
                f"--warmup-ratio {self.warmup_ratio} must be a share of the steps, from 0 to below 1", usage=True
            )
        if not 0 <= self.patched_share <= 1:
            raise TrainingError(
                f"--patched-share {self.patched_share} must be a share of the steps, from 0 to 1", usage=True
            )
        for name, known in _NAMED.items():
            if getattr(self, name) not in known:
                raise TrainingError(
                    f"{flag_of(name)} {getattr(self, name)} is unknown: give one of {', '.join(known)}", usage=True
                )
        if not 0 <= self.seed < 2**32:
            raise TrainingError(f"--seed {self.seed} must be from 0 to {2**32 - 1}", usage=True)

    def _check_phases(self) -> None:
        if not self.phases:
            raise TrainingError(f"--steps {self.steps} must be 1 or more, or --sft-steps with --sft-data", usage=True)
        if self.sft_data and not self.sft_steps:
            raise TrainingError("--sft-data without --sft-steps: tell how many steps to train on it", usage=True)
        if self.sft_steps and not self.sft_data:
            raise TrainingError(
                f"--sft-steps {self.sft_steps} without --sft-data: name the conversations to train on", usage=True
            )
        if len(self.sft_columns) > 2:
            raise TrainingError(
                f"--sft-columns {','.join(self.sft_columns)} must be the columns of prompt and response, or the one of "
                "messages",
                usage=True,
            )
        for phase in self.phases:
            if not (phase.cross_entropy or phase.kl or phase.cosine):
                last = ", --sft-no-kl" if phase.response_only else ""
                raise TrainingError(
                    f"nothing to train on: leave out one of --no-cross-entropy, --no-kl, --no-cosine{last}",
                    usage=True,
                )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Return the phases that have steps, in their order."""
        parts = {"cross_entropy": self.cross_entropy, "cosine": self.cosine}
        text = Phase("text", "", self.steps, self.batch_size, self.sequence_length, kl=self.kl, **parts)
        conversations = Phase(
            "sft",
            "sft-",
            self.sft_steps,
            self.sft_batch_size,
            self.sft_sequence_length,
            kl=self.kl and self.sft_kl,
            response_only=True,
            **parts,
        )
        return tuple(phase for phase in (text, conversations) if phase.steps)

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """Return the names of a loss and of its parts, as they are recorded."""
        return ("total", "cross_entropy", "kl", self.alignment)

    @property
    def total_steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def ends(self) -> tuple[int, ...]:
        """Return after how many steps each phase ends."""
        return tuple(accumulate(phase.steps for phase in self.phases))

    def phase_after(self, step: int) -> int:
        """Return the index of the phase that follows when ``step`` steps are done; of the last one at the end."""
        return min(bisect_right(self.ends, step), len(self.phases) - 1)

    def positions(self, steps: int) -> int:
        """Return how many positions the first ``steps`` steps run over at most: the work that they are."""
        begins = (0, *self.ends)
        return sum(
            phase.tokens_per_step * max(0, min(steps, end) - begin)
            for phase, begin, end in zip(self.phases, begins, self.ends, strict=False)
        )

    @property
    def warmup_steps(self) -> int:
        return math.ceil(self.total_steps * self.warmup_ratio)

    def as_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def check_same(self, saved: Mapping[str, Any]) -> None:
        """Refuse to go on with a run that was started with another recipe; text is compared by content, elsewhere.

        Raises:
            TrainingError: names each value that differs, with both values.
        """
        ours = self.as_json()
        differences = [
            f"{flag_of(field.name)} {ours[field.name]} (was {saved.get(field.name)})"
            for field in fields(self)
            if field.name not in ("data", "eval_data", "sft_data") and ours[field.name] != saved.get(field.name)
        ]
        if differences:
            raise TrainingError(
                f"the run to resume had another recipe: {', '.join(differences)}; "
                "give the same values, or start anew with --overwrite"
            )
