"""Where a training stands: its losses and the seconds that its steps have taken, as a display shows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.pair.layers import Owner

if TYPE_CHECKING:
    from boomerang_cli.engine.distillation.steps import Step


@dataclass(frozen=True)
class TrainingProgress:
    """What a progress display shows.

    Attributes:
        tokens_per_step: over all processes; at most, where a sequence is a conversation.
        micro_batch_size: sequences that run at once in each process.
        losses: ``total cross_entropy kl``, and ``cosine`` or ``relative``: means over the steps that were last logged;
            empty before.
        evaluation: ``loss perplexity`` on the evaluation text, as last measured; empty before.
        seconds_left: of training and evaluations, at the speed so far; None before the first step.
        stopping: a Ctrl-C was seen, the step will be finished and saved.
        phase: the name of the one that the last step belongs to.
        phases: all that there are, each with its micro-batch size.
        teacher_evaluation: likewise of the teacher; empty before.
        evaluating: what is being scored, ``teacher`` or ``student``, the sequences that are, and all; None in between.
    """

    step: int
    steps: int
    tokens_per_step: int
    micro_batch_size: int
    losses: Mapping[str, float]
    evaluation: Mapping[str, float]
    learning_rate: float
    tokens_per_second: float
    seconds_left: float | None
    stopping: bool = False
    phase: str = "text"
    phases: tuple[tuple[Phase, int], ...] = ()
    teacher_evaluation: Mapping[str, float] = field(default_factory=dict)
    evaluating: tuple[Owner, int, int] | None = None


ProgressCallback = Callable[[TrainingProgress], None]


class Clock:
    """Counts the seconds that steps take, over all parts of a resumed run; evaluation and saving are not counted."""

    def __init__(self, stopped_seconds: float = 0.0) -> None:
        self.stopped_seconds = stopped_seconds
        self._since = time.monotonic()
        self._step = 0

    def restart(self, step: int) -> None:
        """Forget the time since the clock was last stopped: no step was running."""
        self._since, self._step = time.monotonic(), step

    def stop(self, step: int) -> None:
        """Count the time of the steps up to ``step``."""
        self.stopped_seconds = self.seconds(step)
        self.restart(step)

    def seconds(self, step: int) -> float:
        running = time.monotonic() - self._since if step > self._step else 0.0
        return self.stopped_seconds + running


@dataclass
class Standing:
    """Where a training stands, beside its step; a resumed run goes on from what the earlier one had reached.

    Attributes:
        losses: ``total cross_entropy kl``, and ``cosine`` or ``relative``, as last recorded; empty before.
        evaluation: ``loss perplexity``, as last measured; empty before.
        evaluation_before, teacher_evaluation: likewise, of the student before its first step, and of the teacher.
        evaluation_seconds: that the last one took.
        evaluating: see TrainingProgress.
        phases: by name ``steps tokens counted_tokens`` so far, and ``rows_cut rows_left_out`` of conversations.
    """

    recipe: Recipe
    losses: dict[str, float] = field(default_factory=dict)
    evaluation: dict[str, float] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    phases: dict[str, dict[str, int]] = field(default_factory=dict)
    evaluation_before: dict[str, float] = field(default_factory=dict)
    teacher_evaluation: dict[str, float] = field(default_factory=dict)
    evaluation_seconds: float = 0.0
    evaluating: tuple[Owner, int, int] | None = None

    @classmethod
    def from_json(cls, recipe: Recipe, saved: Mapping[str, Any]) -> Standing:
        clock = Clock(saved["training_seconds"])
        return cls(
            recipe,
            dict(saved["losses"]),
            dict(saved["evaluation"]),
            clock,
            dict(saved["phases"]),
            dict(saved.get("evaluation_before", {})),  # which earlier versions did not measure
            dict(saved.get("teacher_evaluation", {})),
            saved.get("evaluation_seconds", 0.0),
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "training_seconds": self.clock.stopped_seconds,
            "losses": self.losses,
            "evaluation": self.evaluation,
            "phases": self.phases,
            "evaluation_before": self.evaluation_before,
            "teacher_evaluation": self.teacher_evaluation,
            "evaluation_seconds": self.evaluation_seconds,
        }

    @property
    def phase_records(self) -> list[dict[str, Any]]:
        """Return what a result tells of each phase, its ``name`` first."""
        return [{"name": name, **counts} for name, counts in self.phases.items()]

    @property
    def note(self) -> str | None:
        """What became of conversations that are longer than a sequence, if any are."""
        words = {"rows_cut": "were cut to that length", "rows_left_out": "have no response within it and were left out"}
        told = [f"{phase[key]:,} {words[key]}" for phase in self.phases.values() for key in words if phase.get(key)]
        length = self.recipe.sft_sequence_length
        return f"--sft-sequence-length {length}: of the conversations {', '.join(told)}" if told else None

    @property
    def tokens(self) -> int:
        return sum(phase["tokens"] for phase in self.phases.values())

    def count(self, step: Step) -> None:
        """Add a step that is read, and so will be done."""
        before = self.phases.get(step.phase.name, {})
        added = {"steps": 1, "tokens": step.tokens, "counted_tokens": step.counted_tokens}
        sums = {key: before.get(key, 0) + value for key, value in added.items()}
        self.phases[step.phase.name] = {**sums, **step.rows}

    def tokens_per_second(self, step: int) -> float:
        seconds = self.clock.seconds(step)
        return self.tokens / seconds if seconds else 0.0

    def progress(
        self, step: int, *, micro_batch_sizes: tuple[int, ...], learning_rate: float, stopping: bool, evaluations: int
    ) -> TrainingProgress:
        """Return what a display shows after ``step``, with so many ``evaluations`` still to begin."""
        recipe, seconds = self.recipe, self.clock.seconds(step)
        index = recipe.phase_after(max(0, step - 1))
        done, to_do = recipe.positions(step), recipe.positions(recipe.total_steps)
        return TrainingProgress(
            step=step,
            steps=recipe.total_steps,
            tokens_per_step=recipe.phases[index].tokens_per_step,
            micro_batch_size=micro_batch_sizes[index],
            losses=self.losses,
            evaluation=self.evaluation,
            learning_rate=learning_rate,
            tokens_per_second=self.tokens_per_second(step),
            seconds_left=seconds / done * (to_do - done) + self._evaluation_seconds_left(evaluations) if done else None,
            stopping=stopping,
            phase=recipe.phases[index].name,
            phases=tuple(zip(recipe.phases, micro_batch_sizes, strict=True)),
            teacher_evaluation=self.teacher_evaluation,
            evaluating=self.evaluating,
        )

    def _evaluation_seconds_left(self, evaluations: int) -> float:
        _, done, total = self.evaluating or ("", 1, 1)
        return self.evaluation_seconds * (evaluations + 1 - done / total)
