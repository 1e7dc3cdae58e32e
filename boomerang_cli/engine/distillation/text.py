"""The text of one run: opened, checked, and cut to the teacher's tokens before any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.distillation.data import TextSources
from boomerang_cli.engine.distillation.processes import decide
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.sequences import (
    BEGINNING,
    PackedSequences,
    Position,
    beginning_of_text,
    check_enough_tokens,
    check_token_ids,
    evaluation_sequences,
)
from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.models.loading import load_tokenizer
from boomerang_cli.engine.pair.pair import Pair


@dataclass(frozen=True)
class Text:
    """What a run reads.

    Attributes:
        train: sequences as they are needed.
        evaluation: int64 ``[sequences, sequence_length]``, the same in every process; None without such text.
    """

    train: PackedSequences
    evaluation: torch.Tensor | None


def open_text(sources: TextSources, recipe: Recipe, pair: Pair, position: Sequence[int] | None = None) -> Text:
    """Open the text of a run, which begins or goes on at ``position``.

    Raises:
        CheckpointError: the teacher's tokenizer cannot be used.
        DataError: text that is unreadable or too little, or tokens that the models lack; one process looks, all of
            them raise.
    """
    tokenizer = load_tokenizer(pair.teacher)
    needed = recipe.steps * recipe.batch_size
    evaluation = decide(lambda: _check_and_evaluate(sources, recipe, tokenizer, needed, pair.vocabulary_size))
    train = PackedSequences(
        sources.training,
        tokenizer,
        recipe.sequence_length,
        seed=recipe.seed,
        repeat=recipe.repeat,
        sequences_needed=needed,
        start=Position(*position) if position else BEGINNING,
        vocabulary_size=pair.vocabulary_size,
    )
    return Text(train, evaluation)


def _check_and_evaluate(
    sources: TextSources, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, needed: int, vocabulary_size: int
) -> torch.Tensor | None:
    check_token_ids([tokenizer.eos_token_id or 0, *beginning_of_text(tokenizer)], tokenizer, vocabulary_size)
    check_enough_tokens(sources.training, tokenizer, recipe.sequence_length, 1 if recipe.repeat else needed)
    evaluation = evaluation_sequences(sources.evaluation, tokenizer, recipe.sequence_length)
    if evaluation is not None:
        check_token_ids(evaluation, tokenizer, vocabulary_size)
    return evaluation


def check_sequence_length(teacher: Checkpoint, sequence_length: int) -> None:
    """Refuse sequences that are longer than the teacher was made for: its states there are no targets.

    Raises:
        TrainingError: names both lengths.
    """
    longest = teacher.config.get("max_position_embeddings") or teacher.config.get("n_positions")
    if isinstance(longest, int) and sequence_length > longest:
        raise TrainingError(
            f"--sequence-length {sequence_length} is beyond the {longest} positions of {teacher.name}: "
            f"give at most {longest}"
        )
