"""Text in every format: whole documents, in bounded memory."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from stories import DOCUMENTS, documents, packed, refusal, rows, write_jsonl, write_parquet

from boomerang_cli.engine.distillation import readers, stream
from boomerang_cli.engine.distillation.data import find_sources
from boomerang_cli.engine.distillation.sequences import Position
from boomerang_cli.engine.distillation.stream import read_documents

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
