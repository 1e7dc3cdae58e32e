"""Bad text: each kind refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from stories import DOCUMENTS, make_tokenizer, packed, refusal, rows, write_parquet
from torch.utils.data import DataLoader

from boomerang_cli.engine.distillation.data import find_sources
from boomerang_cli.engine.distillation.readers import KINDS
from boomerang_cli.engine.distillation.stream import read_documents
from boomerang_cli.engine.errors import DataError


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
    assert "a.parquet row 1 has a `text` that is no text but int" in refusal(tmp_path)


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
