"""Steps of a training: what each is made of, read phase after phase."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import TrainingArguments

from boomerang_cli.engine.distillation.batches import batch_loader, read_micro_batches
from boomerang_cli.engine.distillation.chat_sequences import ChatPosition
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.reading_process import ReadingProcess
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.vocabulary_loss import Counted
from boomerang_cli.engine.processes.group import processes
from boomerang_cli.engine.waiting import waiting

_STALLED_SECONDS = 20.0


@dataclass(frozen=True)
class Step:
    """What one step of the optimiser is made of, in this process.

    Attributes:
        micro_batches: ``input_ids``, and ``counted``, a Counted, where not every token counts.
        position: how to go on in the data of the phase after this step.
        tokens: over all processes, without padding.
        counted_tokens: of those, the ones that the losses are means over.
        rows: of conversations: how many were ``rows_cut`` and ``rows_left_out`` since the phase began.
    """

    phase: Phase
    micro_batches: Sequence[Mapping[str, Any]]
    position: torch.Tensor
    tokens: int
    counted_tokens: int
    rows: Mapping[str, int] = field(default_factory=dict)


class StepReader:
    """Reads steps, each of the phase that it belongs to.

    Args:
        texts: of each phase of the recipe, what yields its sequences.
        prepare: accelerate's, which shares a loader's batches out over the processes.
        sum_over_processes: of a tensor.
        cuts_padding: whether micro-batches may be cut to their longest sequence.

    Attributes:
        micro_batch_sizes: of each phase; to be set before anything is read.
    """

    def __init__(
        self,
        texts: Sequence[IterableDataset[Any]],
        recipe: Recipe,
        arguments: TrainingArguments,
        prepare: Callable[[DataLoader[Any]], Any],
        sum_over_processes: Callable[[torch.Tensor], torch.Tensor],
        *,
        cuts_padding: bool,
    ) -> None:
        self.micro_batch_sizes: tuple[int, ...] = ()
        self._texts = tuple(texts)
        self._recipe = recipe
        self._arguments = arguments
        self._prepare = prepare
        self._sum_over_processes = sum_over_processes
        self._cuts_padding = cuts_padding
        self._reading = [ReadingProcess() for _ in texts]
        self._has_read = False

    def micro_batches_after(self, step: int) -> _OneAfterTheOther:
        """Return the micro-batches of all steps behind the first ``step`` ones."""
        return _OneAfterTheOther(
            [
                self._prepare(batch_loader(text, size, self._arguments, self._recipe.seed, process))
                for text, size, process in list(zip(self._texts, self.micro_batch_sizes, self._reading, strict=True))[
                    self._recipe.phase_after(step) :
                ]
            ]
        )

    def read(self, micro_batches: Iterator[Any], step: int) -> Step:
        """Return the step that follows when ``step`` steps are done.

        Raises:
            DataError: the text ends before the step does, or cannot be read.
        """
        index = self._recipe.phase_after(step)
        phase = self._recipe.phases[index]
        count = phase.accumulation_steps(self.micro_batch_sizes[index], processes())
        done = step - (0, *self._recipe.ends)[index]
        names = ", ".join(self._recipe.sft_data if phase.response_only else self._recipe.data)
        # At each step that has many tokens the models wait for some of them; what lasts is worth a word.
        with waiting(f"waiting for text from {names}", _STALLED_SECONDS if self._has_read else None):
            batches = read_micro_batches(micro_batches, count, phase, done)
        self._has_read = True
        return self._of_responses(phase, batches) if phase.response_only else _of_text(phase, batches)

    def _of_responses(self, phase: Phase, batches: list[Any]) -> Step:
        """Return the step, with the counted tokens of all of it known to each micro-batch."""
        sizes = torch.stack(
            [torch.stack([each["length"].max(), each["length"].sum(), each["counted"].sum()]) for each in batches]
        )
        longest = sizes[:, 0].tolist()
        tokens, counted = self._sum_over_processes(sizes[:, 1:].sum(0)).tolist()
        share = counted / (len(batches) * processes())
        position = batches[-1]["position"][-1]
        at = ChatPosition(*position.tolist())
        return Step(
            phase,
            [
                _cut(each, length if self._cuts_padding else phase.sequence_length, share)
                for each, length in zip(batches, longest, strict=True)
            ],
            position,
            tokens,
            counted,
            {"rows_cut": at.cut, "rows_left_out": at.left_out},
        )

    def end(self) -> None:
        """End the processes that read."""
        for process in self._reading:
            process.end()


class _OneAfterTheOther(Iterable[Any]):
    """Loaders, each of which begins when the one before it has ended."""

    def __init__(self, loaders: Sequence[Iterable[Any]]) -> None:
        self._loaders = loaders

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._loaders)


def _of_text(phase: Phase, batches: list[Any]) -> Step:
    return Step(phase, batches, batches[-1]["position"][-1], phase.tokens_per_step, phase.tokens_per_step)


def _cut(batch: Mapping[str, Any], length: int, tokens: float) -> dict[str, Any]:
    return {"input_ids": batch["input_ids"][:, :length], "counted": Counted(batch["counted"][:, :length], tokens)}
