"""Batches of text for a training: from the process that reads it, a whole step at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import TrainingArguments

from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.reading_process import ReadingProcess
from boomerang_cli.engine.errors import DataError
from boomerang_cli.engine.processes.group import is_distributed


def batch_loader(
    text: IterableDataset[Any],
    micro_batch_size: int,
    arguments: TrainingArguments,
    seed: int,
    reading_process: ReadingProcess,
) -> DataLoader[Any]:
    """Return a loader of micro-batches: a whole number of ``micro_batch_size`` sequences each."""
    workers = arguments.dataloader_num_workers
    return DataLoader(
        text,
        batch_size=micro_batch_size,
        num_workers=workers,
        # A process forked while a thread of gloo's enters the interpreter can wait for ever (CPython before 3.12).
        multiprocessing_context="forkserver" if workers and is_distributed() else None,
        worker_init_fn=reading_process,
        pin_memory=arguments.dataloader_pin_memory,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),  # a loader draws a number; not from the run's
    )


def read_micro_batches(micro_batches: Iterator[Any], count: int, phase: Phase, done: int) -> list[Any]:
    """Return the ``count`` micro-batches of one step; they are read before it, so an end of text is found in time.

    Args:
        done: steps of this phase before this one.

    Raises:
        DataError: the text ends before the step does, or cannot be read.
    """
    batches: list[Any] = []
    try:
        while len(batches) < count:
            batches.append(next(micro_batches))
    except StopIteration:
        steps = phase.flag("steps")
        raise DataError(
            f"--{phase.prefix}data ended after {done} of {phase.steps} steps ({done * phase.tokens_per_step:,} "
            f"tokens of {phase.steps * phase.tokens_per_step:,}): give more of it, --repeat, or {steps} {done}"
        ) from None
    except DataError as error:  # a loading process wraps its message in a traceback
        raise DataError(str(error).strip().rpartition("DataError: ")[2]) from None
    return batches
