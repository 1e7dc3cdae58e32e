"""Sequences: a stream of documents, tokenised, packed to one length while training goes on.

There is no splitting between processes here. accelerate's ``dispatch_batches=True`` lets rank 0 read and hands a slice
of each batch to every process, so that a step's sequences are the same at any number of processes, micro-batch size or
accumulation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import NamedTuple

import torch
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerBase

from boomerang_cli.engine.distillation.data import HubText, LocalText, Source
from boomerang_cli.engine.distillation.stream import read_documents
from boomerang_cli.engine.errors import DataError

EVALUATION_DOCUMENTS = 512
"""The reference recipe evaluates on a Hub dataset's first 512 documents."""

TOKENIZED_CHARACTERS = 2**18
"""A batch for the tokenizer: large enough to be fast, small enough for the first sequence to be there at once."""

BYTES_PER_TOKEN = 8
"""A token is rarely longer: files of more bytes than this a token needed are taken to be enough, without counting."""


# Tokens


def tokenize(documents: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """Yield each document's tokens, then the end-of-text token; in batches, which do not show in the result.

    Raises:
        DataError: the tokenizer has no end-of-text token.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise DataError(
            f"the tokenizer of {tokenizer.name_or_path} has no end-of-text token to stand between documents: "
            "set `eos_token` in its tokenizer_config.json"
        )
    for batch in _batches(documents):
        encoded = tokenizer(batch, add_special_tokens=False, return_attention_mask=False, verbose=False)
        for tokens in encoded["input_ids"]:
            yield [*tokens, end]


def check_token_ids(
    tokens: torch.Tensor | Sequence[int], tokenizer: PreTrainedTokenizerBase, vocabulary_size: int
) -> None:
    """Refuse tokens for which the embedding has no row: they were added to a tokenizer and not to its model.

    Args:
        vocabulary_size: rows of the embedding.

    Raises:
        DataError: names the token.
    """
    largest = int(torch.as_tensor(tokens, dtype=torch.int64).max())
    if largest >= vocabulary_size:
        raise DataError(
            f"the tokenizer of {tokenizer.name_or_path} gives the token {tokenizer.convert_ids_to_tokens(largest)!r} "
            f"the id {largest}, and the model has {vocabulary_size} tokens, 0 to {vocabulary_size - 1}: give it the "
            "tokenizer that it was trained with, or leave that token out of the text"
        )


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document)
        if characters >= TOKENIZED_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def beginning_of_text(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return what stands at the beginning of every sequence: the token that the tokenizer itself puts there, if any.

    Llama and Gemma have only ever seen text behind it, and without it a teacher's states are no good targets. The
    reference's sequences begin with it too, each being the beginning of a document.
    """
    return [token for token in tokenizer("")["input_ids"][:1] if token == tokenizer.bos_token_id]


# Sequences


class Position(NamedTuple):
    """How to go on after a sequence; ``Position(*numbers)`` makes it again from a list.

    Attributes:
        epoch: how often the text has been read whole.
        document: index in this epoch's shuffled stream.
        token: of that document, where the next sequence begins; past its end, the next document's first.
        sequences: how many there were so far.
    """

    epoch: int = 0
    document: int = 0
    token: int = 0
    sequences: int = 0


BEGINNING = Position()


class PackedSequences(IterableDataset[dict[str, torch.Tensor]]):
    """Documents one after another with end-of-text between, cut to sequences of one length: every position is real.

    The same arguments give the same sequences, here or in one loading process (``num_workers`` 0 or 1; more would each
    read all of the text). Not to be split between processes: see the module's docstring.

    Args:
        seed: the order of the documents; epoch e has that of ``seed + e``.
        repeat: read the text again, in another order, as often as it takes.
        sequences_needed: stop after this many, counted from the very beginning; None stops where the text ends.
        start: go on behind this position. Earlier documents are read again, but not tokenised.
        vocabulary_size: tokens that the model knows; None does not ask.

    Yields:
        ``input_ids``, int64 ``[sequence_length]``, and ``position``, int64 ``[4]``: the Position after this sequence.
        It travels with the sequence because a loading process reads ahead.

    Raises:
        DataError: on the way, for text that cannot be read, has tokens that the model lacks, or ends too early.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        tokenizer: PreTrainedTokenizerBase,
        sequence_length: int,
        *,
        seed: int = 0,
        repeat: bool = False,
        sequences_needed: int | None = None,
        start: Position = BEGINNING,
        vocabulary_size: int | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self.tokenizer = tokenizer
        self.beginning = beginning_of_text(tokenizer)
        self.tokens_of_text = sequence_length - len(self.beginning)  # in a sequence
        self.seed = seed
        self.repeat = repeat
        self.sequences_needed = sequences_needed
        self.start = start
        self.vocabulary_size = vocabulary_size

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        if self.sequences_needed is None:
            return self._sequences()
        return islice(self._sequences(), max(0, self.sequences_needed - self.start.sequences))

    def _sequences(self) -> Iterator[dict[str, torch.Tensor]]:
        length, sequences = self.tokens_of_text, self.start.sequences
        rest: list[int] = []  # less than a sequence
        for epoch, document, first, tokens in self._documents():
            rest += tokens[first:]
            stop = 0
            for stop in range(length, len(rest) + 1, length):
                sequences += 1
                token = len(tokens) - (len(rest) - stop)  # what is left is all of this document
                input_ids = torch.tensor(self.beginning + rest[stop - length : stop])
                if self.vocabulary_size is not None:
                    check_token_ids(input_ids, self.tokenizer, self.vocabulary_size)
                yield {
                    "input_ids": input_ids,
                    "position": torch.tensor(Position(epoch, document, token, sequences)),
                }
            rest = rest[stop:]
        if self.sequences_needed is not None:
            raise _too_little_text(self.sources, sequences * length + len(rest), length, self.sequences_needed)

    def _documents(self) -> Iterator[tuple[int, int, int, list[int]]]:
        """Yield epoch, index in the epoch, first token to take, and tokens of each document that is still to come."""
        epoch, skip, first, _ = self.start
        while True:
            tokens_read = 0
            texts = islice(read_documents(self.sources, self.seed + epoch), skip, None)
            for document, tokens in enumerate(tokenize(texts, self.tokenizer), start=skip):
                yield epoch, document, first, tokens
                first = 0
                tokens_read += len(tokens)
            if not self.repeat:
                return
            if skip == 0 and tokens_read < self.tokens_of_text:  # else nothing at all would be read for ever
                raise _too_little_text(self.sources, tokens_read, self.tokens_of_text, 1)
            epoch, skip, first = epoch + 1, 0, 0


def count_tokens(sources: Iterable[Source], tokenizer: PreTrainedTokenizerBase, *, at_most: int) -> int:
    """Return how many tokens there are, end-of-text included; reading stops at ``at_most``."""
    count = 0
    for tokens in tokenize(read_documents(sources), tokenizer):
        count += len(tokens)
        if count >= at_most:
            return at_most
    return count


def check_enough_tokens(
    sources: Sequence[Source], tokenizer: PreTrainedTokenizerBase, sequence_length: int, sequences_needed: int
) -> None:
    """Refuse text that is too short before training starts; with ``repeat``, one sequence is enough.

    A Hub dataset's size is not known: its first document is read, so that a wrong name is found out, and
    ``PackedSequences`` tells if it ends too early. So it does for files that hold much else than text.

    Raises:
        DataError: says how many tokens there are.
    """
    step = sequence_length - len(beginning_of_text(tokenizer))
    needed = sequences_needed * step
    remote = [source for source in sources if isinstance(source, HubText)]
    for source in remote:
        next(replace(source, skip=0).documents(), None)
    local_bytes = sum(source.size_bytes for source in sources if isinstance(source, LocalText))
    if remote or local_bytes > BYTES_PER_TOKEN * needed:
        return
    count = count_tokens(sources, tokenizer, at_most=needed)
    if count < needed:
        raise _too_little_text(sources, count, step, sequences_needed)


def _too_little_text(sources: Sequence[Source], tokens: int, sequence_tokens: int, sequences_needed: int) -> DataError:
    """Return the error for text of ``tokens`` tokens, at ``sequence_tokens`` of text a sequence."""
    names = ", ".join(source.name for source in sources)
    skipped = max((source.skip for source in sources if isinstance(source, HubText)), default=0)
    behind = (
        f" behind its first {skipped:,} documents, which are held out unless --eval-data is given" if skipped else ""
    )
    return DataError(
        f"--data {names} holds {tokens:,} tokens{behind}: {tokens // sequence_tokens:,} sequences, and "
        f"{sequences_needed:,} are needed; give more text, fewer --steps, a shorter --sequence-length, or --repeat"
    )


def evaluation_sequences(
    sources: Sequence[Source], tokenizer: PreTrainedTokenizerBase, sequence_length: int
) -> torch.Tensor | None:
    """Return int64 ``[sequences, sequence_length]``, packed like the training text but in order; None without sources.

    The first 512 documents, and at most as many sequences: in the reference, too, a document gives at most one. What
    is left at the end is dropped.

    Raises:
        DataError: the text is shorter than one sequence, or cannot be read.
    """
    if not sources:
        return None
    beginning = torch.tensor(beginning_of_text(tokenizer), dtype=torch.int64)
    step = sequence_length - len(beginning)
    documents = islice(read_documents(sources), EVALUATION_DOCUMENTS)
    tokens = list(islice(chain.from_iterable(tokenize(documents, tokenizer)), EVALUATION_DOCUMENTS * step))
    count = len(tokens) // step
    if count == 0:
        names = ", ".join(source.name for source in sources)
        raise DataError(
            f"the evaluation text {names} holds {len(tokens):,} tokens, less than one sequence of {sequence_length:,}: "
            "give more text, or a shorter --sequence-length"
        )
    packed = torch.tensor(tokens[: count * step]).view(count, step)
    return torch.cat([beginning.expand(count, -1), packed], dim=1)
