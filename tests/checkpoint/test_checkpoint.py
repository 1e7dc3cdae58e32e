"""Reading headers: whole checkpoints in every layout, and each way in which one can be broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from files import entry, names, write_raw
from running import assert_refused
from tiny_models import make_config, make_model

from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint, read_header
from boomerang_cli.engine.errors import CheckpointError, ModelNotFoundError


def folder_of(tmp_path: Path, **files: Any) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for name, content in files.items():
        (tmp_path / name.replace("__", ".")).write_text(json.dumps(content))
    return tmp_path


def test_single_and_sharded_files_hold_the_same_tensors(tmp_path: Path) -> None:
    model = make_model(make_config("gpt_neox"), 1)
    model.save_pretrained(tmp_path / "single")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    single, sharded = (open_checkpoint(tmp_path / name).tensors for name in ("single", "sharded"))
    assert len({tensor.file for tensor in sharded.values()}) > 2
    assert {name: (each.dtype, each.shape) for name, each in single.items()} == {
        name: (each.dtype, each.shape) for name, each in sharded.items()
    }


def test_a_tensor_lies_where_its_header_says(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "x", {"a": entry(0, 2), "b": entry(2, 5)}, b"AABBB")
    tensor = read_header(path)["b"]
    assert path.read_bytes()[tensor.start : tensor.stop] == b"BBB"


def test_a_folder_is_recorded_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(make_config("gpt_neox"), 1).save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert open_checkpoint("model").name == str(tmp_path / "model")


HEADERS: dict[str, tuple[dict[str, Any] | bytes, bytes, int | None, str]] = {
    "shorter than its tensors": ({"a": entry(0, 8)}, b"1234", None, "is truncated: "),
    "longer than its tensors": ({"a": entry(0, 2)}, b"1234", None, "is too long: "),
    "header past the end": ({"a": entry(0, 2)}, b"12", 10**6, "is truncated: .* cannot hold its 1000000-byte header"),
    "header of 2^63 bytes": ({"a": entry(0, 2)}, b"12", 2**63, "is truncated"),
    "overlapping tensors": ({"a": entry(0, 4), "b": entry(2, 6)}, b"123456", None, "b overlaps the tensor before it"),
    "a gap between tensors": ({"a": entry(0, 2), "b": entry(4, 6)}, b"123456", None, "b leaves a gap before it"),
    "backward offsets": ({"a": entry(4, 2, (2,))}, b"1234", None, "a has -2 bytes"),
    "negative offsets": ({"a": entry(-2, 0, (2,))}, b"12", None, "a overlaps"),
    "shape and bytes that differ": ({"a": entry(0, 4, (3,))}, b"1234", None, r"a has 4 bytes for shape \[3\] of U8"),
    "negative extents": ({"a": entry(0, 4, (-2, -2))}, b"1234", None, r"shape \[-2, -2\]"),
    "an unknown dtype": ({"a": entry(0, 4, dtype="F4")}, b"1234", None, "a has the dtype F4"),
    "a header that is no JSON": (b"{not json", b"", None, "not safetensors JSON"),
    "a header that is a list": (b"[1, 2]", b"", None, "not safetensors JSON"),
    "a header nested too deeply": (b"[" * 100_000, b"", None, "not safetensors JSON"),
    "an entry without offsets": ({"a": {"dtype": "U8", "shape": [1]}}, b"1", None, "not safetensors JSON"),
    "offsets that are words": (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":["x","y"]}}',
        b"1",
        None,
        "not safetens",
    ),
}


@pytest.mark.parametrize("case", HEADERS)
def test_broken_file_is_refused_with_what_is_wrong(case: str, tmp_path: Path) -> None:
    header, data, length, message = HEADERS[case]
    write_raw(folder_of(tmp_path) / "model.safetensors", header, data, length)
    before = names(tmp_path)
    assert_refused("init-student", tmp_path, "-o", tmp_path / "student", message=message)
    assert names(tmp_path) == before


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is truncated: its 0 bytes"):
        read_header(tmp_path / "x")


INDEXES: dict[str, tuple[Any, str]] = {
    "a missing shard": ({"weight_map": {"a": "gone.safetensors"}}, "names gone.safetensors, which is missing"),
    "a path upwards": ({"weight_map": {"a": "../x.safetensors"}}, "names a file outside the folder"),
    "an absolute path": ({"weight_map": {"a": "/etc/passwd"}}, "names a file outside the folder"),
    "a backslash": ({"weight_map": {"a": "..\\x"}}, "names a file outside the folder"),
    "two dots": ({"weight_map": {"a": ".."}}, "names a file outside the folder"),
    "no weight map": ({}, "has no weight_map"),
    "an empty weight map": ({"weight_map": {}}, "has no weight_map"),
    "a list": ([], "must hold a JSON object, not a list"),
    "a tensor that no file holds": ({"weight_map": {"a": "s", "b": "s"}}, "names 1 tensors that no file holds, b"),
    "a tensor in another file": ({"weight_map": {"b": "s"}}, "holds a, which .* puts elsewhere"),
}  # fmt: skip


@pytest.mark.parametrize("case", INDEXES)
def test_broken_index_is_refused_with_what_is_wrong(case: str, tmp_path: Path) -> None:
    content, message = INDEXES[case]
    folder = folder_of(tmp_path, model__safetensors__index__json=content)
    write_raw(folder / "s", {"a": entry(0, 1)}, b"1")
    before = names(tmp_path)
    assert_refused("init-student", folder, "-o", tmp_path / "student", message=message)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "has no config.json"),
        (b"{", "config.json is not JSON"),
        (b"[]", "must hold a JSON object"),
        (b"\xff", "not JSON"),
    ],
)
def test_broken_configuration_is_refused(tmp_path: Path, config: bytes | None, message: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_bytes(config)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path)


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors and no model\.safetensors\.index\.json"):
        open_checkpoint(folder_of(tmp_path))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="only pickled weights"):
        open_checkpoint(folder_of(tmp_path))


@pytest.mark.parametrize(
    "model", ["nothing-here", "a/b/c", "../x/y", "owner/name@", "owner/..", "", "~nobody-of-that-name/x", "x" * 300]
)
def test_what_is_neither_folder_nor_hub_id_is_refused(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ModelNotFoundError, CheckpointError)):
        open_checkpoint(model)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ModelNotFoundError, match="is a file: give the model's folder"):
        open_checkpoint(tmp_path / "x")
