"""From documents to batches: the tokenizer, one long row of tokens, and the sequences that it is cut into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0


def train_tokenizer(documents: Sequence[str], vocabulary_size: int, context_length: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer, so that any text can be written; end-of-text is token 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )


def pack(documents: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Return all tokens in one row, int64 ``[tokens]``, with end-of-text before each document and at the end."""
    tokens = [END_OF_TEXT_ID]
    for document in documents:
        tokens += [*tokenizer.backend_tokenizer.encode(document).ids, END_OF_TEXT_ID]
    return torch.tensor(tokens)


def cut(row: torch.Tensor, context_length: int) -> torch.Tensor:
    """Return the row's sequences, ``[sequences, context_length + 1]``; a rest too short for one is left out.

    Each begins with the last token of the one before it, so that every token but the row's first is predicted once.
    """
    return row.unfold(0, context_length + 1, context_length)


def batches(row: torch.Tensor, context_length: int, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield ``[batch_size, context_length + 1]`` in random order without end; the last of a pass can be smaller.

    Each pass cuts the row at other places, so that hardly a sequence is seen twice.
    """
    while True:
        offset = int(torch.randint(context_length, ()))
        sequences = cut(row[offset:], context_length)
        for indices in torch.split(torch.randperm(len(sequences)), batch_size):
            yield sequences[indices]
