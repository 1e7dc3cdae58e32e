"""The text of one run: opened, checked, and cut to the teacher's tokens before any training."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.companions import companions
from boomerang_cli.engine.checkpoint.files import RemoteFile
from boomerang_cli.engine.checkpoint.hub_reading import fetch_file
from boomerang_cli.engine.distillation.chat_sequences import (
    CHAT_BEGINNING,
    ChatPosition,
    ChatSequences,
    check_chat_rows,
)
from boomerang_cli.engine.distillation.conversations import ChatData
from boomerang_cli.engine.distillation.data import HubText, TextSources
from boomerang_cli.engine.distillation.phase import Phase
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
from boomerang_cli.engine.errors import TrainingError, flag_of
from boomerang_cli.engine.models.loading import load_tokenizer
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.processes.group import decide


@dataclass(frozen=True)
class Text:
    """What a run reads.

    Attributes:
        train: of each phase of the recipe, sequences as they are needed.
        evaluation: int64 ``[sequences, sequence_length]``, the same in every process; None without such text.
    """

    train: tuple[PackedSequences | ChatSequences, ...]
    evaluation: torch.Tensor | None


def open_text(
    sources: TextSources, recipe: Recipe, pair: Pair, step: int = 0, position: Sequence[int] | None = None
) -> Text:
    """Open the text of a run, which begins, or goes on at ``position`` after ``step`` steps.

    Raises:
        CheckpointError: the teacher's tokenizer cannot be used.
        DataError: text that is unreadable or too little, or tokens that the models lack; one process looks, all of
            them raise.
    """
    tokenizer = load_tokenizer(pair.teacher)
    # A phase that ended with the last step is not gone on with: what follows begins at its own beginning.
    running = recipe.phase_after(step) if position and step not in recipe.ends else None
    positions = [position if index == running else None for index in range(len(recipe.phases))]
    train = tuple(
        _open_phase(phase, sources, recipe, tokenizer, pair.vocabulary_size, at)
        for phase, at in zip(recipe.phases, positions, strict=True)
    )
    evaluation = decide(lambda: _check_and_evaluate(train, sources, recipe, tokenizer, pair.vocabulary_size))
    return Text(train, evaluation)


def _open_phase(
    phase: Phase,
    sources: TextSources,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    vocabulary_size: int,
    position: Sequence[int] | None,
) -> PackedSequences | ChatSequences:
    if phase.response_only:
        return ChatSequences(
            [ChatData(source, recipe.sft_columns) for source in sources.chat],
            tokenizer,
            phase,
            seed=recipe.seed,
            repeat=recipe.repeat,
            start=ChatPosition(*position) if position else CHAT_BEGINNING,
            vocabulary_size=vocabulary_size,
        )
    return PackedSequences(
        sources.training,
        tokenizer,
        phase.sequence_length,
        seed=recipe.seed,
        repeat=recipe.repeat,
        sequences_needed=phase.sequences,
        start=Position(*position) if position else BEGINNING,
        vocabulary_size=vocabulary_size,
    )


def _check_and_evaluate(
    train: Sequence[PackedSequences | ChatSequences],
    sources: TextSources,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    vocabulary_size: int,
) -> torch.Tensor | None:
    check_token_ids([tokenizer.eos_token_id or 0, *beginning_of_text(tokenizer)], tokenizer, vocabulary_size)
    for text, phase in zip(train, recipe.phases, strict=True):
        if isinstance(text, ChatSequences):
            check_chat_rows(text)
        else:
            needed = 1 if recipe.repeat else phase.sequences
            check_enough_tokens(sources.training, tokenizer, phase.sequence_length, needed)
    evaluation = evaluation_sequences(sources.evaluation, tokenizer, recipe.sequence_length)
    if evaluation is not None:
        check_token_ids(evaluation, tokenizer, vocabulary_size)
    return evaluation


def look_at_text(sources: TextSources, recipe: Recipe, pair: Pair) -> None:
    """Look for a plan whether text on this disk is enough; of chat data, write the first rows with the template.

    Datasets of the Hub are not asked for. Of a teacher on the Hub, what stands beside the weights is fetched.

    Args:
        sources: of chat data, those that somebody named; a recipe's own are on the Hub.

    Raises:
        CheckpointError, DataError, HubError: as those of :func:`open_text`, as far as this shows.
    """
    training, evaluation = (
        () if any(isinstance(each, HubText) for each in found) else found
        for found in (sources.training, sources.evaluation)
    )
    if not (training or evaluation or sources.chat):
        return
    for file in companions(pair.teacher.files):
        if isinstance(file, RemoteFile):
            fetch_file(file)
    tokenizer = load_tokenizer(pair.teacher)
    for phase in recipe.phases:
        if phase.response_only and sources.chat:
            chats = _open_phase(phase, sources, recipe, tokenizer, pair.vocabulary_size, None)
            assert isinstance(chats, ChatSequences)
            check_chat_rows(chats, look=True)
        elif not phase.response_only and training:
            needed = 1 if recipe.repeat else phase.sequences
            check_enough_tokens(training, tokenizer, phase.sequence_length, needed)
    evaluation_sequences(evaluation, tokenizer, recipe.sequence_length)


def fit_lengths(recipe: Recipe, teacher: Checkpoint, given: Collection[str]) -> tuple[Recipe, str | None]:
    """Return the recipe with sequences that are no longer than the teacher was made for, and a note if any were.

    Args:
        given: the names of the lengths that somebody chose: they are left, and :func:`check_sequence_lengths` refuses.
    """
    longest = positions_of(teacher)
    used = [f"{phase.prefix.replace('-', '_')}sequence_length" for phase in recipe.phases]
    names = dict.fromkeys([*used, *(["sequence_length"] if recipe.eval_data else [])])
    too_long = [name for name in names if name not in given and getattr(recipe, name) > (longest or math.inf)]
    if longest is None or not too_long:
        return recipe, None
    flags = ", ".join(f"{flag_of(name)} {longest} instead of {getattr(recipe, name)}" for name in too_long)
    changed: dict[str, Any] = dict.fromkeys(too_long, longest)
    return replace(recipe, **changed), f"{flags}: {teacher.name} has no more positions"


def check_sequence_lengths(teacher: Checkpoint, recipe: Recipe) -> None:
    """As :func:`check_sequence_length`, for every phase and the held-out text."""
    for phase in recipe.phases:
        check_sequence_length(teacher, phase.sequence_length, phase.flag("sequence_length"))
    if recipe.eval_data:
        check_sequence_length(teacher, recipe.sequence_length)


def check_sequence_length(teacher: Checkpoint, sequence_length: int, flag: str = "--sequence-length") -> None:
    """Refuse sequences that are longer than the teacher was made for: its states there are no targets.

    Raises:
        TrainingError: names both lengths.
    """
    longest = positions_of(teacher)
    if longest is not None and sequence_length > longest:
        raise TrainingError(
            f"{flag} {sequence_length} is beyond the {longest} positions of {teacher.name}: give at most {longest}"
        )


def positions_of(teacher: Checkpoint) -> int | None:
    """Return how many positions a teacher was made for; None where its configuration does not say."""
    positions = teacher.config.get("max_position_embeddings") or teacher.config.get("n_positions")
    return positions if isinstance(positions, int) else None
