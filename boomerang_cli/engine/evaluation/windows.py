"""Text to score models on: one stream of tokens, cut to windows of one length, each token scored exactly once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from boomerang_cli.engine.distillation.data import Source
from boomerang_cli.engine.distillation.sequences import beginning_of_text, tokenize
from boomerang_cli.engine.distillation.stream import read_documents
from boomerang_cli.engine.errors import DataError
from boomerang_cli.engine.models.head import IGNORED_LABEL


@dataclass(frozen=True, eq=False)
class Windows:
    """Text, ready to be scored.

    Attributes:
        input_ids: int64 ``[windows, length]``.
        labels: int64 ``[windows, length]``, the token after each position; ignored where an earlier window scores it.
    """

    input_ids: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """A name for each window that no other text has."""
        rows = zip(self.input_ids, self.labels, strict=True)
        return tuple(hashlib.sha256(torch.stack(row).numpy().tobytes()).hexdigest()[:16] for row in rows)

    @cached_property
    def digest(self) -> str:
        """A name for all of it."""
        return hashlib.sha256(",".join(self.keys).encode()).hexdigest()[:16]

    @cached_property
    def tokens(self) -> tuple[int, ...]:
        """How many tokens each window scores."""
        return tuple((self.labels != IGNORED_LABEL).sum(1).tolist())

    def first(self, count: int) -> Windows:
        return Windows(self.input_ids[:count], self.labels[:count])


def read_windows(
    sources: Sequence[Source],
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    *,
    stride: int | None = None,
    at_most: int,
    flag: str = "--data",
) -> Windows:
    """Read text and cut it to windows.

    Documents follow one another with end-of-text between, as in training. A window begins ``stride`` tokens behind the
    one before it, and scores what that one has not scored: with the default stride of one length each token is read
    once, with a shorter one each token but the first has at least ``length - stride`` tokens before it. The last window
    ends where the text ends. Where the tokenizer begins a text with a token of its own, so does each window.

    Args:
        at_most: windows; the rest of the text is not read.
        flag: what the user gave the text with.

    Raises:
        DataError: the text is shorter than one window, or cannot be read.
    """
    beginning = beginning_of_text(tokenizer)
    stride = stride or length
    first = 1 - len(beginning)  # without a token before it, the text's first token cannot be predicted
    needed = first + length + (at_most - 1) * stride
    tokens = list(islice(chain.from_iterable(tokenize(read_documents(sources), tokenizer)), needed))
    last = len(tokens) - length
    if last < first:
        names = ", ".join(source.name for source in sources)
        raise DataError(
            f"{flag} {names} holds {len(tokens):,} tokens, less than one window of {length:,}: "
            "give more text, or a shorter --sequence-length"
        )
    starts = [*range(first, last, stride), last]
    return _cut(torch.tensor(tokens), beginning, starts, length)


def _cut(tokens: Tensor, beginning: list[int], starts: Sequence[int], length: int) -> Windows:
    """Return windows that predict the tokens from each of ``starts`` on."""
    rows, labels = [], []
    scored = 0
    for start in starts:
        label = tokens[start : start + length].clone()
        label[: max(0, scored - start)] = IGNORED_LABEL
        before = torch.tensor(beginning) if beginning else tokens[start - 1 : start]
        rows.append(torch.cat([before, tokens[start : start + length - 1]]))
        labels.append(label)
        scored = start + length
    return Windows(torch.stack(rows), torch.stack(labels))
