"""Stories to read: documents, a tokenizer of them, and what reading gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from boomerang_cli.engine.distillation.data import find_sources
from boomerang_cli.engine.distillation.sequences import PackedSequences
from boomerang_cli.engine.distillation.stream import read_documents
from boomerang_cli.engine.errors import DataError

SEQUENCES = "boomerang_cli.engine.distillation.sequences"
LENGTH = 8
DOCUMENTS = [f"Story {number}: the mole met the rat {'by the river ' * (number % 4)}at noon." for number in range(30)]


def make_tokenizer(begin: bool = False) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<end>", "<begin>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(DOCUMENTS, trainer)
    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(single="<begin> $A", special_tokens=[("<begin>", 1)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token="<end>", bos_token="<begin>"
    )


TOKENIZER = make_tokenizer()


def write_jsonl(path: Path, documents: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": 1, "text": text}) + "\n" for text in documents), encoding="utf-8")
    return path


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def documents(*values: str | Path, seed: int | None = None) -> list[str]:
    return list(read_documents(find_sources([str(value) for value in values]).training, seed))


def packed(value: str | Path, tokenizer: PreTrainedTokenizerFast = TOKENIZER, **options: Any) -> PackedSequences:
    return PackedSequences(find_sources([str(value)]).training, tokenizer, LENGTH, **options)


def rows(sequences: Any) -> list[tuple[list[int], list[int]]]:
    return [(row["input_ids"].tolist(), row["position"].tolist()) for row in sequences]


def tokens_of(texts: list[str]) -> list[int]:
    return [token for text in texts for token in [*TOKENIZER.encode(text, add_special_tokens=False), 0]]


def refusal(value: str | Path) -> str:
    with pytest.raises(DataError) as error:
        documents(value)
    assert "\n" not in str(error.value)
    return str(error.value)


def dispatched(value: str, batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
    from accelerate import Accelerator, DataLoaderConfiguration

    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=True))
    sequences = packed(value, sequences_needed=24)
    return iter(accelerator.prepare(DataLoader(sequences, batch_size=batch_size, drop_last=True)))
