"""Text: every format, exact packing, exact resumption, bounded memory, and each bad input in one line."""

from __future__ import annotations

import bz2
import csv
import gzip
import importlib
import json
import lzma
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from boomerang_cli.engine.distillation import data, readers, stream
from boomerang_cli.engine.distillation.data import HubText, find_sources
from boomerang_cli.engine.distillation.readers import KINDS
from boomerang_cli.engine.distillation.sequences import (
    PackedSequences,
    Position,
    check_enough_tokens,
    count_tokens,
    evaluation_sequences,
)
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


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # a forked loading process would warn


@pytest.fixture
def stories(tmp_path: Path) -> str:
    return str(write_jsonl(tmp_path / "stories.jsonl", DOCUMENTS))


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


# Formats


def test_a_txt_file_is_split_at_end_of_text_and_blank_documents_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One\nline\n<|endoftext|>\nTwo\n<|endoftext|>\n\n<|endoftext|>\n", encoding="utf-8")
    assert documents(path) == ["One\nline", "Two"]


def test_a_txt_file_without_end_of_text_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfOne\r\n\r\ntwo\r\n")  # as Windows writes it
    assert documents(path) == ["One\n\ntwo"]


def test_a_long_txt_document_is_cut_at_line_breaks_without_losing_a_line(tmp_path: Path) -> None:
    lines = [f"line {number} of a book" for number in range(5000)]
    path = tmp_path / "book.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    pieces = documents(path)
    assert "\n".join(pieces).split("\n") == lines
    assert all(readers.PIECE_CHARACTERS / 2 <= len(piece) <= readers.PIECE_CHARACTERS for piece in pieces[:-1])


@pytest.mark.parametrize("character", ["a", "é", "漢", "🪃", "a "])
def test_characters_at_the_borders_of_reading_stay_whole(tmp_path: Path, character: str) -> None:
    text = character * 100_001
    path = tmp_path / "a.txt"
    path.write_text("x" + text, encoding="utf-8")
    assert "".join(documents(path)) == "x" + text


@pytest.mark.parametrize("shift", range(14))
def test_end_of_text_is_found_at_the_borders_of_reading_and_cutting(tmp_path: Path, shift: int) -> None:
    stories = ["a" * (readers.PIECE_CHARACTERS - shift), "b" * (3 * readers.PIECE_CHARACTERS - shift), "c"]
    path = tmp_path / "a.txt"
    path.write_text("<|endoftext|>".join(stories), encoding="utf-8")
    found = documents(path)
    assert ["".join(piece for piece in found if piece[0] == letter) for letter in "abc"] == stories
    assert all(len(set(piece)) == 1 for piece in found)


def test_jsonl_gives_its_text_column_and_skips_empty_lines_and_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "One", "n": [1, "x"]}\n\n{"text": null}\n{"text": ""}\n{"n": 2, "text": "Zwölf\\n"}')
    assert documents(path) == ["One", "Zwölf\n"]


def test_half_a_surrogate_pair_in_jsonl_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "half \\ud83e here"}')
    assert documents(path) == ["half ? here"]


def test_parquet_gives_its_text_column(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"id": [1, 2, 3], "text": ["One", None, "Three"]})
    assert documents(path) == ["One", "Three"]


def test_csv_gives_its_text_column_of_any_length(tmp_path: Path) -> None:
    long = "a line, and\r\nanother " * 10_000
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["id", "text"], [1, "One"], [2, ""], [3, long]])
    assert documents(tmp_path / "a.csv") == ["One", long]


@pytest.mark.parametrize("content", [
    '{"text": "One"}\n{"text": "Two"}\n',
    '[{"text": "One"}, {"text": "Two"}]',
    '\n[\n  {"text": "One"},\n  {\n    "text": "Two"\n  }\n]\n',
])  # fmt: skip
def test_json_is_lines_or_a_list(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert documents(tmp_path / "a.json") == ["One", "Two"]


def zstandard(content: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(content)
    return bytes(packed.getvalue().to_pybytes())


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard}


@pytest.mark.parametrize("suffix", PACKERS)
def test_packed_files_give_what_is_in_all_their_parts(tmp_path: Path, suffix: str) -> None:
    parts = ['{"text": "One"}\n{"text": "Zwölf"}\n', '{"text": "Three"}\n']
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(b"".join(PACKERS[suffix](part.encode()) for part in parts))
    assert documents(path) == ["One", "Zwölf", "Three"]


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_packed_file_that_was_cut_off_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACKERS[suffix](random.Random(0).randbytes(5000).hex().encode())[:-9])
    assert f"{path} cannot be read: " in refusal(path)


def test_a_run_goes_on_at_its_place_in_a_packed_file(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", DOCUMENTS)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    (tmp_path / "a.jsonl").unlink()
    whole = rows(packed(tmp_path, repeat=True, sequences_needed=200))
    start = Position(*whole[120][1])
    assert rows(packed(tmp_path, repeat=True, sequences_needed=200, start=start)) == whole[121:]


def test_what_is_left_out_of_a_folder_is_told_with_counts(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "linked").symlink_to("../far")
    (corpus / "gone.txt").symlink_to("nowhere.txt")
    for name in ("README.txt", "0.jsonl.zip", "1.jsonl.zip", "LICENSE", "dataset_info.json", ".hidden"):
        (corpus / name).write_text("text")
    assert find_sources([str(corpus)], [str(corpus)]).notes == [
        f"{corpus}: reading 1 file (README.txt); left out 2 .jsonl.zip files, 1 broken link, 1 dataset_info.json, "
        "1 linked folder, 1 other file"
    ]
    assert find_sources([str(corpus / "README.txt")]).notes == []


def test_a_folder_gives_all_its_text_files_sorted_and_nothing_hidden(tmp_path: Path) -> None:
    for name in ("b/c.TXT", "a.txt", ".git/d.txt", "b/notes.md", "z.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert documents(tmp_path) == ["a.txt", "b/c.TXT", "z.txt"]


def test_several_sources_take_turns(tmp_path: Path) -> None:
    short = write_jsonl(tmp_path / "short.jsonl", ["1", "2"])
    long = write_jsonl(tmp_path / "long.jsonl", ["A", "B", "C", "D"])
    assert documents(short, long) == ["1", "A", "2", "B", "C", "D"]


# Hub datasets, which are not there in tests


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Serves 40 documents in place of the Hub, and lists the calls."""
    datasets = importlib.import_module("datasets")
    calls: list[Any] = []

    def load_dataset(*words: Any, **options: Any) -> Any:
        calls.append((words, options))
        return datasets.IterableDataset.from_generator(lambda: ({"text": f"{number:02}"} for number in range(40)))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(data, "HELD_OUT_DOCUMENTS", 10)
    monkeypatch.setattr(f"{SEQUENCES}.EVALUATION_DOCUMENTS", 4)
    return calls


def test_a_hub_dataset_is_streamed_with_its_config_and_revision(hub: list[Any]) -> None:
    next(read_documents(find_sources(["owner/name:20.en@v1"], ["owner/other"]).training))
    assert hub == [(("owner/name", "20.en"), {"split": "train", "streaming": True, "revision": "v1"})]


def test_the_beginning_of_a_hub_dataset_is_held_out_for_evaluation(hub: list[Any]) -> None:
    sources = find_sources(["owner/name"])
    assert sorted(read_documents(sources.training, seed=0)) == [f"{number:02}" for number in range(10, 40)]
    evaluation = evaluation_sequences(sources.evaluation, TOKENIZER, 6)
    assert evaluation is not None
    assert evaluation.flatten().tolist() == tokens_of(["00", "01", "02", "03"])[: evaluation.numel()]


def test_with_evaluation_text_nothing_of_a_hub_dataset_is_held_out(hub: list[Any], stories: str) -> None:
    sources = find_sources(["owner/name"], [stories])
    assert len(list(read_documents(sources.training))) == 40
    assert list(read_documents(sources.evaluation)) == DOCUMENTS


def test_a_hub_dataset_reads_the_same_in_a_loading_process(hub: list[Any]) -> None:
    sequences = packed("owner/name")
    assert rows(DataLoader(sequences, batch_size=None, num_workers=1)) == rows(sequences)


def test_a_hub_dataset_that_ends_too_early_says_what_it_held(hub: list[Any]) -> None:
    with pytest.raises(
        DataError, match=r"--data owner/name holds \d+ tokens behind its first 10 documents.*--eval-data"
    ):
        rows(packed("owner/name", sequences_needed=1000))


def test_a_hub_dataset_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*words: Any, **options: Any) -> Any:
        raise ConnectionError("Couldn't reach it\non the Hub")

    monkeypatch.setattr(importlib.import_module("datasets"), "load_dataset", load_dataset)
    assert "owner/name is no local file or folder" in refusal("owner/name")
    with pytest.raises(DataError, match="Couldn't reach it on the Hub"):
        check_enough_tokens([HubText("owner/name", "owner/name")], TOKENIZER, LENGTH, 1)


def test_a_hub_dataset_without_a_text_column_names_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.import_module("datasets"), "load_dataset", lambda *words, **options: [{"content": "a", "n": 1}]
    )
    source = HubText("owner/name", "owner/name")
    with pytest.raises(DataError, match=r"owner/name has no column `text` \(columns: content, n\)"):
        next(source.documents())


# Packing


def test_sequences_are_the_documents_joined_by_end_of_text(stories: str) -> None:
    joined = tokens_of(documents(stories, seed=0))
    sequences = [row for row, _ in rows(packed(stories))]
    assert list(chain.from_iterable(sequences)) == joined[: len(joined) // LENGTH * LENGTH]


def test_the_size_of_the_tokenizers_batches_does_not_show(stories: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = rows(packed(stories))
    monkeypatch.setattr(f"{SEQUENCES}.TOKENIZED_CHARACTERS", 1)
    assert rows(packed(stories)) == expected


def test_each_sequence_begins_with_what_the_tokenizer_begins_with(stories: str) -> None:
    sequences = [row for row, _ in rows(packed(stories, make_tokenizer(begin=True)))]
    assert {row[0] for row in sequences} == {1}
    joined = tokens_of(documents(stories, seed=0))
    assert list(chain.from_iterable(row[1:] for row in sequences)) == joined[: len(sequences) * (LENGTH - 1)]


def test_end_of_text_ends_each_document_and_stands_nowhere_else(stories: str) -> None:
    sequences = [row for row, _ in rows(packed(stories))]
    assert list(chain.from_iterable(sequences)).count(0) in (len(DOCUMENTS) - 1, len(DOCUMENTS))


# Order


def test_a_token_that_the_model_lacks_is_named(stories: str) -> None:
    with pytest.raises(DataError, match=r"gives the token '.+' the id \d{2,3}, and the model has 50 tokens, 0 to 49: "):
        rows(packed(stories, vocabulary_size=50))
    largest = max(tokens_of(DOCUMENTS))
    assert rows(packed(stories, vocabulary_size=largest + 1)) == rows(packed(stories))


def test_a_seed_gives_an_order_and_another_seed_another(stories: str) -> None:
    assert documents(stories, seed=1) == documents(stories, seed=1)
    assert documents(stories, seed=1) != documents(stories, seed=2)
    assert sorted(documents(stories, seed=1)) == sorted(DOCUMENTS) != documents(stories, seed=1)


def test_the_files_of_a_folder_are_shuffled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SHUFFLE_DOCUMENTS", 0)
    for number in range(20):
        (tmp_path / f"{number:02}.txt").write_text(f"{number:02}")
    assert documents(tmp_path, seed=0) != documents(tmp_path) == sorted(documents(tmp_path, seed=0))


@pytest.mark.parametrize("bound", ["SHUFFLE_DOCUMENTS", "LOCAL_SHUFFLE_CHARACTERS"])
def test_a_small_shuffle_buffer_loses_nothing(stories: str, bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, bound, 3)
    assert sorted(documents(stories, seed=0)) == sorted(DOCUMENTS)


def test_a_loading_process_gives_the_same_sequences(stories: str) -> None:
    sequences = packed(stories)
    assert rows(DataLoader(sequences, batch_size=None, num_workers=1)) == rows(sequences)


def test_a_pickled_copy_gives_the_same_sequences(stories: str) -> None:
    sequences = packed(stories, seed=3)
    assert rows(pickle.loads(pickle.dumps(sequences))) == rows(sequences)


# Resuming


def test_from_any_position_exactly_the_remaining_sequences_follow(stories: str) -> None:
    options: dict[str, Any] = {"seed": 5, "repeat": True, "sequences_needed": 150}
    expected = rows(packed(stories, **options))
    assert expected[-1][1][0] > 0  # into a second epoch
    for done in range(1, len(expected), 7):
        start = Position(*json.loads(json.dumps(expected[done - 1][1])))
        assert rows(packed(stories, start=start, **options)) == expected[done:]


def test_a_document_of_many_sequences_is_resumed_in_its_middle(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [" ".join(DOCUMENTS)])
    expected = rows(packed(path))
    assert [position[1] for _, position in expected] == [0] * len(expected)
    assert rows(packed(path, start=Position(*expected[4][1]))) == expected[5:]


def test_a_loading_process_resumes_where_its_last_batch_ended(stories: str) -> None:
    expected = rows(packed(stories))
    loader = DataLoader(packed(stories), batch_size=4, num_workers=1)
    reached = next(iter(loader))["position"][-1].tolist()  # the process has read on meanwhile
    resumed = packed(stories, start=Position(*reached))
    assert rows(DataLoader(resumed, batch_size=None, num_workers=1)) == expected[4:]


def test_earlier_documents_are_not_tokenised_again(stories: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Position(*rows(packed(stories))[-1][1])
    tokenised: list[str] = []

    def tokenize(texts: Iterator[str], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
        tokenised.extend(texts)
        return []

    monkeypatch.setattr(f"{SEQUENCES}.tokenize", tokenize)
    rows(packed(stories, start=start))
    assert len(tokenised) == len(DOCUMENTS) - start.document


# accelerate


def dispatched(value: str, batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
    from accelerate import Accelerator, DataLoaderConfiguration

    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=True))
    sequences = packed(value, sequences_needed=24)
    return iter(accelerator.prepare(DataLoader(sequences, batch_size=batch_size, drop_last=True)))


def test_accelerate_gives_every_sequence_in_order(stories: str) -> None:
    batches = dispatched(stories, batch_size=4)
    given = [row for batch in batches for row in batch["input_ids"].tolist()]
    assert given == [row for row, _ in rows(packed(stories))][:24]


@pytest.mark.slow
def test_two_processes_share_the_sequences_of_one(stories: str, tmp_path: Path) -> None:
    code = (
        "import json, os, pathlib, sys; sys.path.insert(0, sys.argv[1]); import test_data\n"
        "given = [batch['input_ids'].tolist() for batch in test_data.dispatched(sys.argv[2], 3)]\n"
        "pathlib.Path(sys.argv[3], os.environ['RANK']).write_text(json.dumps(given))\n"
        "import torch; torch.distributed.destroy_process_group()\n"  # else it may abort at exit
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [str(script), str(Path(__file__).parent), stories, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-m", *launch, *words], env=environment, check=True, capture_output=True)
    first, second = (json.loads((tmp_path / rank).read_text()) for rank in "01")
    given = [row for pair in zip(first, second, strict=True) for batch in pair for row in batch]
    assert given == [row for row, _ in rows(packed(stories))][:24]


# Memory


def test_a_large_file_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LOCAL_SHUFFLE_CHARACTERS", 1_000_000)
    path = tmp_path / "large.txt"
    path.write_text("The mole met the rat by the river.\n" * 600_000)  # 21 MB, one document
    tracemalloc.start()
    characters = sum(map(len, documents_of(path)))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert characters > 20_000_000
    assert peak_bytes < 3_000_000


def documents_of(path: Path) -> Iterator[str]:
    return read_documents(find_sources([str(path)]).training, seed=0)


# Too little text


def test_tokens_are_counted_with_their_ends_and_no_further_than_asked(stories: str) -> None:
    sources = find_sources([stories]).training
    total = len(tokens_of(DOCUMENTS))
    assert count_tokens(sources, TOKENIZER, at_most=10**9) == total
    assert count_tokens(sources, TOKENIZER, at_most=total - 1) == total - 1


def test_too_little_text_is_refused_with_its_number_of_tokens(stories: str) -> None:
    sources, total = find_sources([stories]).training, len(tokens_of(DOCUMENTS))
    check_enough_tokens(sources, TOKENIZER, LENGTH, total // LENGTH)
    needed = total // LENGTH + 1
    with pytest.raises(
        DataError, match=rf"holds {total:,} tokens: {needed - 1:,} sequences, and {needed:,} are needed"
    ):
        check_enough_tokens(sources, TOKENIZER, LENGTH, needed)


def test_files_that_are_certainly_large_enough_are_not_counted(stories: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(f"{SEQUENCES}.count_tokens")
    check_enough_tokens(find_sources([stories]).training, TOKENIZER, LENGTH, 5)


def test_the_number_of_sequences_needed_is_given_and_then_reading_stops(stories: str) -> None:
    available = len(rows(packed(stories)))
    assert len(rows(packed(stories, sequences_needed=available))) == available
    with pytest.raises(DataError, match=f"holds {len(tokens_of(DOCUMENTS)):,} tokens"):
        rows(packed(stories, sequences_needed=available + 1))


def test_a_resumed_text_that_ends_early_counts_what_was_read_before(stories: str) -> None:
    start = Position(*rows(packed(stories))[10][1])
    with pytest.raises(DataError, match=f"holds {len(tokens_of(DOCUMENTS)):,} tokens"):
        rows(packed(stories, start=start, sequences_needed=10**6))


def test_repeated_text_comes_in_another_order_each_time(stories: str) -> None:
    total = len(tokens_of(DOCUMENTS))
    needed = 2 * total // LENGTH
    given = list(chain.from_iterable(row for row, _ in rows(packed(stories, repeat=True, sequences_needed=needed))))
    both = tokens_of(documents(stories, seed=0) + documents(stories, seed=1))
    assert given == both[: needed * LENGTH]


@pytest.mark.parametrize("text", ["", "a"])
def test_repeating_less_than_a_sequence_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=r"a\.txt holds \d tokens: 0 sequences, and 1 are needed"):
        rows(packed(tmp_path / "a.txt", repeat=True))


# Evaluation


def test_evaluation_text_is_packed_in_order_and_its_last_part_dropped(stories: str) -> None:
    sequences = evaluation_sequences(find_sources(["a/b"], [stories]).evaluation, TOKENIZER, LENGTH)
    assert sequences is not None
    joined = tokens_of(DOCUMENTS)
    assert sequences.tolist() == torch.tensor(joined[: len(joined) // LENGTH * LENGTH]).view(-1, LENGTH).tolist()


def test_evaluation_sequences_begin_as_the_training_sequences_do(stories: str) -> None:
    sources = find_sources([stories], [stories])
    sequences = evaluation_sequences(sources.evaluation, make_tokenizer(begin=True), LENGTH)
    assert sequences is not None
    assert sequences.shape[1] == LENGTH
    assert set(sequences[:, 0].tolist()) == {1}


def test_evaluation_text_has_a_limit(stories: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{SEQUENCES}.EVALUATION_DOCUMENTS", 5)
    sequences = evaluation_sequences(find_sources([stories]).training, TOKENIZER, LENGTH)
    assert sequences is not None
    assert len(sequences) == 5


def test_local_text_alone_gives_no_evaluation(stories: str) -> None:
    assert evaluation_sequences(find_sources([stories]).evaluation, TOKENIZER, LENGTH) is None


def test_evaluation_text_shorter_than_a_sequence_is_refused(stories: str) -> None:
    with pytest.raises(DataError, match=r"stories\.jsonl holds [\d,]+ tokens, less than one sequence of 100,000"):
        evaluation_sequences(find_sources([stories]).training, TOKENIZER, 100_000)


# Bad input


@pytest.mark.parametrize("name", ["missing.txt", "/missing/folder", "missing", "a/b/c", "a b/c"])
def test_a_path_that_does_not_exist_is_refused(name: str) -> None:
    message = refusal(name)
    assert message.startswith(f"--data {name} ")
    assert "Hub dataset" in message


def test_the_flag_that_was_wrong_is_named(stories: str) -> None:
    with pytest.raises(DataError, match=r"^--eval-data missing\.txt does not exist"):
        find_sources([stories], ["missing.txt"])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text\nhello\n")
    assert "a.md is of an unknown kind: convert it to one of .txt, .jsonl, .json, .csv, " in refusal(tmp_path / "a.md")


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    for name in ("notes.md", "shard-0.jsonl.zip", "shard-1.jsonl.zip"):
        (tmp_path / name).write_text("no")
    message = f"{tmp_path} is a folder without any {KINDS} file but 2 .jsonl.zip files, 1 .md file: give one"
    assert message in refusal(tmp_path)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_text_that_is_not_utf8_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes('{"text": "café"}'.encode("latin-1"))
    assert f"{name} is not UTF-8 (byte 0xe9, " in refusal(tmp_path)


@pytest.mark.parametrize("line", ["{broken", "", '{"text": "cut o', "[" * 100_000])
def test_a_broken_json_line_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n\n' + (line or "\x00") + "\n")
    assert "a.jsonl line 3 is not JSON (" in refusal(tmp_path)


def test_a_json_line_without_text_is_refused_with_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"content": "x", "id": 3}\n')
    assert "a.jsonl line 2 has no column `text` (columns: content, id)" in refusal(tmp_path)


@pytest.mark.parametrize(("line", "words"), [("[1]", "is not an object"), ('{"text": 3}', "is no text but int")])
def test_json_of_another_shape_is_refused(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "a.jsonl").write_text(line)
    assert words in refusal(tmp_path)


def test_parquet_without_text_is_refused_with_its_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"content": ["x"], "id": [1]})
    assert "a.parquet has no column `text` (columns: content, id)" in refusal(tmp_path)


def test_parquet_whose_text_is_numbers_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"text": [1]})
    assert "a.parquet has a `text` that is no text but int" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no parquet at all", b"PAR1 cut short"])
def test_a_broken_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    assert "a.parquet cannot be read: " in refusal(tmp_path)


def test_a_parquet_file_cut_in_its_pages_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": DOCUMENTS})
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    assert "a.parquet cannot be read: " in refusal(tmp_path)


def test_a_file_that_is_gone_when_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("here")
    sources = find_sources([str(path)]).training
    path.unlink()
    with pytest.raises(DataError, match=r"a\.txt cannot be read: No such file"):
        list(read_documents(sources))


def test_a_tokenizer_without_end_of_text_is_refused(stories: str) -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="no end-of-text token"):
        rows(packed(stories, tokenizer))


def test_an_error_in_a_loading_process_arrives_as_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("broken")
    with pytest.raises(DataError, match=r"a\.jsonl line 1 is not JSON"):
        rows(DataLoader(packed(tmp_path), batch_size=None, num_workers=1))


def test_reading_writes_nothing(
    stories: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows(DataLoader(packed(stories), batch_size=None, num_workers=1))
    assert [path.name for path in tmp_path.iterdir()] == ["stories.jsonl"]
    assert capfd.readouterr() == ("", "")
