"""Sequences of chat data: one conversation each, padded behind its end.

A conversation is a sequence of its own in every family. Packed ones would have to be kept apart by position ids and
masks, which only attention can: states of a recurrent or convolving layer and learnt positions run on. Padding stands
behind the last token, where no causal model sees it from any token before, so no mask is needed either. What padding
costs is kept low: the conversations of a step are sorted by length, and a micro-batch is cut to its longest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import torch
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerBase

from boomerang_cli.engine.distillation.chat_tokens import ChatTokenizer, ChatTokens
from boomerang_cli.engine.distillation.conversations import ChatData
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.read_ahead import read_ahead
from boomerang_cli.engine.distillation.sequences import check_token_ids
from boomerang_cli.engine.distillation.stream import read_documents
from boomerang_cli.engine.errors import DataError

CHECKED_ROWS = 1000
"""So many rows are written with the template before training starts: what does not fit it shows in the first ones."""
LOOKED_AT_ROWS = 50
"""So many for a plan, which is to take seconds."""


class ChatPosition(NamedTuple):
    """How to go on behind a step; ``ChatPosition(*numbers)`` makes it again from a list.

    Attributes:
        epoch: how often the data has been read whole.
        row: index in this epoch's shuffled stream of the next row.
        sequences: how many there were so far.
        cut: of those, rows that were longer than a sequence.
        left_out: rows that have no response within the length of a sequence.
    """

    epoch: int = 0
    row: int = 0
    sequences: int = 0
    cut: int = 0
    left_out: int = 0


CHAT_BEGINNING = ChatPosition()


class ChatSequences(IterableDataset[dict[str, torch.Tensor]]):
    """Conversations in the shuffled order of the seed, those of a step from the longest to the shortest.

    As ``sequences.PackedSequences``, it is read in one process, and goes on from a position; that is always the end of
    a step. Rows that are too long are cut; one without a response in what is left is left out.

    Args:
        sources: of conversations.
        tokenizer: that has a chat template.
        phase: how many sequences of which length a step has, and how many steps there are.
        seed, repeat, vocabulary_size: see ``sequences.PackedSequences``.
        start: go on behind this position.

    Yields:
        ``input_ids``, int64 ``[sequence_length]``; ``counted``, bool ``[sequence_length]``: whether the token behind
        this one is a response's; ``length``, int64: how many tokens are no padding; ``position``, int64 ``[5]``: the
        ChatPosition after this step.

    Raises:
        DataError: there is no chat template; on the way, for rows that cannot be read or end too early.
    """

    def __init__(
        self,
        sources: Sequence[ChatData],
        tokenizer: PreTrainedTokenizerBase,
        phase: Phase,
        *,
        seed: int = 0,
        repeat: bool = False,
        start: ChatPosition = CHAT_BEGINNING,
        vocabulary_size: int | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self.tokenizer = tokenizer
        self.chat = ChatTokenizer(tokenizer)
        self.phase = phase
        self.seed = seed
        self.repeat = repeat
        self.start = start
        self.vocabulary_size = vocabulary_size

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return chain.from_iterable(read_ahead(self._steps()))

    def _steps(self) -> Iterator[list[dict[str, torch.Tensor]]]:
        step: list[ChatTokens] = []
        if self.start.sequences >= self.phase.sequences:
            return
        for tokens, position in self._rows():
            step.append(tokens)
            if len(step) == self.phase.batch_size:
                longest_first = sorted(step, key=lambda each: -len(each.input_ids))
                yield [self._as_tensors(each, position) for each in longest_first]
                step = []
            if position.sequences == self.phase.sequences:
                return

    def _rows(self) -> Iterator[tuple[ChatTokens, ChatPosition]]:
        """Yield each conversation that is used, and the position behind it; for ever, or as long as there are rows."""
        length = self.phase.sequence_length
        epoch, skip, sequences, cut, left_out = self.start
        while True:
            before = sequences
            conversations = islice(read_documents(self.sources, self.seed + epoch), skip, None)
            for row, conversation in enumerate(conversations, start=skip + 1):
                tokens = self.chat.tokens_of(conversation)
                if not any(tokens.response[1:length]):  # nothing predicts a first token
                    left_out += 1
                    continue
                sequences += 1
                cut += len(tokens.input_ids) > length
                shortened = ChatTokens(tokens.input_ids[:length], tokens.response[:length])
                if self.vocabulary_size is not None:
                    check_token_ids(shortened.input_ids, self.tokenizer, self.vocabulary_size)
                yield shortened, ChatPosition(epoch, row, sequences, cut, left_out)
            if not self.repeat or (skip == 0 and sequences == before):
                raise _too_few_rows(self.sources, self.phase, sequences, left_out)
            epoch, skip = epoch + 1, 0

    def _as_tensors(self, tokens: ChatTokens, position: ChatPosition) -> dict[str, torch.Tensor]:
        size, length = self.phase.sequence_length, len(tokens.input_ids)
        input_ids = torch.zeros(size, dtype=torch.int64)
        counted = torch.zeros(size, dtype=torch.bool)
        input_ids[:length] = torch.tensor(tokens.input_ids)
        counted[: length - 1] = torch.tensor(tokens.response[1:])
        return {
            "input_ids": input_ids,
            "counted": counted,
            "length": torch.tensor(length),
            "position": torch.tensor(position),
        }


def check_chat_rows(sequences: ChatSequences, *, look: bool = False) -> None:
    """Refuse chat data before training that the template does not fit, or that is too little.

    Of each source the first rows are written with the template; files are read until there are enough rows, a Hub
    dataset, whose size is not known, as far as those rows.

    Args:
        look: write some rows of each source and read no more, as a plan does; too few are told of smaller data alone.

    Raises:
        DataError: says which row, and why, or how many there are.
    """
    needed = 1 if sequences.repeat else sequences.phase.sequences
    checked = LOOKED_AT_ROWS if look else CHECKED_ROWS
    rows = left_out = 0
    is_whole = True
    for source in sequences.sources:
        for number, conversation in enumerate(source.documents()):
            if number < checked:
                response: Sequence[Any] = sequences.chat.tokens_of(conversation).response
                is_used = any(response[1 : sequences.phase.sequence_length])
                rows, left_out = rows + is_used, left_out + (not is_used)
            else:
                rows += 1
            if number + 1 >= checked and (look or source.is_remote or rows >= needed):
                is_whole = False
                break
    if rows < needed if is_whole else rows == 0 and not look:
        raise _too_few_rows(sequences.sources, sequences.phase, rows, left_out)


def _too_few_rows(sources: Sequence[ChatData], phase: Phase, sequences: int, left_out: int) -> DataError:
    names = ", ".join(data.source.name for data in sources)
    lost = f" and {left_out:,} without one within {phase.sequence_length:,} tokens" if left_out else ""
    return DataError(
        f"--sft-data {names} holds {sequences:,} rows with a response{lost}, and {phase.sequences:,} are needed; give "
        "more data, fewer --sft-steps, a longer --sft-sequence-length, or --repeat"
    )
