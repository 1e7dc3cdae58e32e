"""Models larger, longer and elsewhere than those of the other tests: shards, headers, offsets, paths, caches, disks."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from files import entry, names, tensor_bytes, write_raw
from huggingface_hub import constants
from running import run
from tiny_models import save_pair

from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.checkpoint.tensors import read_header
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.patch import patch

PEAK_BYTES = 150e6
"""Of patch at any size of model (SPEC.md, How fast)."""

# Reports its own peak: that of the process that starts it counts for a child until it has become the command.
MEASURED = """
import sys
from boomerang_cli.cli.app import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    status = open("/proc/self/status").read()
    print("peak", int(status.split("VmHWM:")[1].split()[0]) * 1024, file=sys.stderr)
    raise
"""


def run_measured(*words: object) -> int:
    """Run a command in a process of its own, and return its peak memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.rsplit("peak ", 1)[1])


def write_sparse(path: Path, shapes: dict[str, tuple[int, ...]], *, at_the_end: bytes = b"") -> None:
    """Write float16 tensors of zeros that take no room on the disk; the file's last bytes may be others."""
    header, position = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(shape[0]) * (shape[1] if len(shape) > 1 else 1)
        header[name] = entry(position, position + size, shape, "F16")
        position += size
    write_raw(path, header)
    os.truncate(path, path.stat().st_size + position)
    with path.open("r+b") as file:
        file.seek(-len(at_the_end), os.SEEK_END)
        file.write(at_the_end)


def write_config(folder: Path, **config: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"torch_dtype": "float16", **config}))


# Many tensors


def write_mixture(folder: Path, layers: int, shards: int) -> None:
    """Write a mixture of 128 experts a layer in so many files."""
    write_config(folder, model_type="qwen3_moe", num_hidden_layers=layers, vocab_size=8, tie_word_embeddings=False,
                 mlp_only_layers=[], decoder_sparse_step=1)  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight": (16, 16)
        for layer in range(layers)
        for expert in range(128)
        for part in ("gate", "up", "down")
    }
    shapes |= {f"model.layers.{layer}.self_attn.q_proj.weight": (16, 16) for layer in range(layers)}
    shapes |= {"model.embed_tokens.weight": (8, 16), "model.norm.weight": (16,), "lm_head.weight": (8, 16)}
    left, files = iter(shapes), {}
    for number in range(shards):
        held = list(islice(left, -(-len(shapes) // shards)))
        write_sparse(folder / f"model-{number:05}.safetensors", {name: shapes[name] for name in held})
        files |= dict.fromkeys(held, f"model-{number:05}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def write_record(student: Path, kept: Sequence[int], layers: int) -> None:
    pruned = sorted(set(range(layers)) - set(kept))
    record = {"copied_teacher_layers": list(kept), "pruned_teacher_layers": pruned}
    (student / "student_config.json").write_text(json.dumps(record))


def test_ten_thousand_tensors_in_a_hundred_shards(tmp_path: Path) -> None:
    write_mixture(tmp_path / "teacher", 26, 100)
    write_mixture(tmp_path / "student", 14, 50)
    write_record(tmp_path / "student", [*range(0, 26, 2), 25], 26)
    assert len(open_checkpoint(tmp_path / "teacher").tensors) > 10_000
    models = ("--student", tmp_path / "student", "--teacher", tmp_path / "teacher")
    peak = run_measured("patch", "--layers", 6, *models, "--max-shard-size", "100KB", "-o", tmp_path / "m")
    assert peak < PEAK_BYTES
    assert len(list((tmp_path / "m").glob("*.safetensors"))) == 40


def test_a_long_header_takes_a_few_times_its_length_in_memory(tmp_path: Path) -> None:
    count = 20_000
    name = "model.layers.{}.mlp.experts.{}.down_proj.weight"
    write_sparse(tmp_path / "x", {name.format(each // 1000, each % 1000): (2, 2) for each in range(count)})
    length = struct.unpack("<Q", (tmp_path / "x").read_bytes()[:8])[0]
    tracemalloc.start()
    tensors = read_header(tmp_path / "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(tensors) == count
    assert peak < 5 * length


def test_a_header_of_fifty_megabytes_is_read(tmp_path: Path) -> None:
    text = json.dumps({"a": entry(0, 1)}).encode().ljust(50_000_000)
    write_raw(tmp_path / "x", text, b"A")
    assert read_header(tmp_path / "x")["a"].start == 8 + len(text)


def test_the_rule_of_a_thousand_layers_is_quick() -> None:
    layer_map, started = LayerMap(1001, tuple(range(0, 1001, 2))), time.process_time()
    assert len(layer_map.sources(layer_map.patchable[::2])) == 751
    assert time.process_time() - started < 1


# Far offsets


def test_tensors_beyond_four_gigabytes_are_found(tmp_path: Path) -> None:
    """The first tensor is one that old files hold and nobody reads, so that little is written."""
    for folder, layers in ((tmp_path / "teacher", 4), (tmp_path / "student", 2)):
        write_config(folder, model_type="gpt_neox", num_hidden_layers=layers, vocab_size=8, tie_word_embeddings=False)
        shapes: dict[str, tuple[int, ...]] = {"gpt_neox.layers.0.attention.bias": (2**16, 2**15 + 2**14)}
        shapes |= {f"gpt_neox.layers.{layer}.mlp.weight": (16, 16) for layer in range(layers)}
        shapes |= {"gpt_neox.embed_in.weight": (8, 16), "gpt_neox.final_layer_norm.weight": (16,)}
        shapes |= {"embed_out.weight": (8, 16)}
        write_sparse(folder / "model.safetensors", shapes, at_the_end=b"\1\2" * 128)
    assert (tmp_path / "teacher" / "model.safetensors").stat().st_size > 6 * 2**30
    write_record(tmp_path / "student", (0, 2), 4)
    result = patch(
        layers=2, student=tmp_path / "student", teacher=tmp_path / "teacher", output=tmp_path / "m", verify=True
    )
    assert result.bytes < 10_000
    assert tensor_bytes(tmp_path / "m")["embed_out.weight"][2] == b"\1\2" * 128


# Paths


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return save_pair(tmp_path, "gpt_neox")


@pytest.mark.parametrize(
    "name", ["two words", "模型 é😀", 'it\'s "quoted" $(x)', "[a]*?", "-o", os.fsdecode(b"caf\xe9")]
)
def test_a_folder_may_have_any_name(name: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    place = tmp_path / name
    place.mkdir()
    for model in pair:
        model.rename(place / model.name)
    words = ("--student", place / "student", "--teacher", place / "teacher")
    told = run("patch", "--layers", 1, *words, f"--output={place / name}", "--json", "--verify")
    assert os.fsencode(json.loads(told.stdout)["path"]) == os.fsencode(place / name)
    assert names(place) == sorted([name, "student", "teacher"])
    assert json.loads((place / name / "boomerang.json").read_text())["teacher"]["name"] == str(place / "teacher")


def test_models_are_read_from_the_hubs_cache_offline(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model, name in zip(pair, ("big", "small"), strict=True):
        repo = tmp_path / "cache" / f"models--lab--{name}"
        for folder in ("blobs", "refs", "snapshots/abc"):
            (repo / folder).mkdir(parents=True)
        (repo / "refs" / "main").write_text("abc")
        for number, path in enumerate(sorted(model.iterdir())):
            path.rename(repo / "blobs" / str(number))
            (repo / "snapshots" / "abc" / path.name).symlink_to(f"../../blobs/{number}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = patch(layers=1, student="lab/small", teacher="lab/big", output=tmp_path / "model", verify=True)
    assert result.verified is not None
    assert not [path for path in (tmp_path / "model").iterdir() if path.is_symlink()]


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


def test_a_relative_output_may_lie_on_another_disk(
    pair: tuple[Path, Path], other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(other_disk)
    patch(layers=3, student=pair[1], output="deep/model", verify=True)
    assert tensor_bytes(Path("deep/model")) == tensor_bytes(pair[0])
    assert names(other_disk / "deep") == ["model"]
