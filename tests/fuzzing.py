"""Damaged files and command lines, and what must hold whatever they are: for test_fuzz.py and benchmarks/fuzz.py.

A target takes a source of chance and a folder from :func:`workspace`, and plays one case: damage, read, compare. It
returns ``"refused"`` or ``"accepted"``, and raises where something else happens than one line or a right result.
"""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

from files import entry, names, write_raw
from safetensors import SafetensorError, safe_open
from typer.main import get_command

from boomerang_cli.cli.app import app
from boomerang_cli.engine.checkpoint.families import FAMILIES
from boomerang_cli.engine.checkpoint.tensors import read_header
from boomerang_cli.engine.errors import BoomerangError
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.order import find_order
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.publishing.provenance import read_license
from boomerang_cli.engine.publishing.publication import prepare

Target = Callable[[Random, Path], str]

LAYERS, KEPT = 4, (0, 2)
_LIKE_LLAMA = sorted(name for name, family in FAMILIES.items() if family.layers == "model.layers.")
_CONFIG = {
    "model_type": "qwen3",
    "hidden_size": 2,
    "vocab_size": 3,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "max_window_layers": 2,
    "layer_types": None,
    "mlp_only_layers": [1],
    "decoder_sparse_step": 1,
    "first_k_dense_replace": 1,
    "num_nextn_predict_layers": 0,
    "no_rope_layers": None,
    "auto_map": {"AutoModel": "modeling.Evil"},
}
_FRONT = b"---\nlicense: apache-2.0\ntags: [a, b]\ndate: 2026-01-01\n---\n# A model\n"

# What readers stumble over: brackets without end, numbers without bound, half a surrogate pair, ways out of a folder.
_PIECES = [
    b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\n", b"\x1b[2J", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-",
    b"0",
    b"-1", b"1.5", b"1e999", b"9" * 30, b"9" * 5000, b"NaN", b"null", b"true", b"{}", b"[]", b'"\\ud800"', b"../",
    b"/",
    b"[" * 3000, b'{"a":' * 3000, b" " * 100, b"&a [*a, *a]", b"!!python/object:os.system", "٣é😀".encode(),
]  # fmt: skip
_VALUES: list[Any] = [
    None, True, False, 0, 1, 2, 3, 4, -1, 7, 2**31, 2**63, 10**30, 1.5, -0.0, 1e999, "", "a", "0", "..", "../x",
    "/etc/passwd",
    "a\0b", "\ud800", "~nobody/x", "a/b", "a/b@c", "\x1b[31m", "x" * 5000, "F32", "U8", "float32", "first", "last",
    "boomerang patch 'a", [], {}, [0], [1, 0], [[0], [1]], [[], [0], [0, 1]], {"a": 1}, [None], [1.5], [True], ["0"],
]  # fmt: skip


def workspace(root: Path) -> Path:
    """Make a teacher in two files, a student, a model patched from them, an order, and a project folder."""
    _write_model(root / "teacher", LAYERS, shards=2)
    _write_model(root / "student", len(KEPT), shards=1)
    record = {"pruned_teacher_layers": [1, 3], "copied_teacher_layers": list(KEPT), "order": "last"}
    training = {"recipe": {"steps": 1, "data": ["a/b"]}, "losses": {"total": 0.5}, "tokens": 9}
    record |= {"teacher": str(root / "teacher"), "distillation": training}
    (root / "student" / "student_config.json").write_text(json.dumps(record))
    patch(layers=1, student=root / "student", output=root / "patched")
    order = {"copied_teacher_layers": list(KEPT), "teacher_layers": LAYERS, "patched_blocks": [[], [0], [0, 1]]}
    (root / "order.json").write_text(json.dumps(order))
    (root / "project").mkdir()
    return root


def _write_model(folder: Path, layers: int, shards: int) -> None:
    folder.mkdir()
    every = [f"model.layers.{layer}.{name}" for layer in range(layers) for name in ("a.weight", "b.weight")]
    every = ["model.embed_tokens.weight", *every, "model.norm.weight", "lm_head.weight"]
    files, size = {}, 24
    for number in range(shards):
        name = f"model-{number}.safetensors" if shards > 1 else "model.safetensors"
        held = every[number::shards]
        header = {tensor: entry(size * i, size * (i + 1), (3, 2), "F32") for i, tensor in enumerate(held)}
        data = b"".join(struct.pack("<6f", *[hash((str(folder.name), tensor)) % 997] * 6) for tensor in held)
        write_raw(folder / name, header, data)
        files |= dict.fromkeys(held, name)
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    config = {key: value for key, value in {**_CONFIG, "num_hidden_layers": layers}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_bytes(_FRONT)


# Damage


def mutated(chance: Random, data: bytes) -> bytes:
    """Return the bytes with one to three places changed, cut, doubled or filled."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice((0, 1, 1, 2, 8, 64)))
        kind = chance.randrange(5)
        if kind == 0 and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[to:]
        elif kind == 2:
            data = data[:at] + data[at:to] * 2 + data[to:]
        elif kind == 3:
            data = data[:at] + chance.choice(_PIECES) + data[to:]
        elif chance.random() < 0.2:
            data = data[:at]
    return data


def reshaped(chance: Random, value: Any) -> Any:
    """Return a JSON value with one place in it replaced, removed, doubled or filled."""
    value = copy.deepcopy(value)
    at = value
    while isinstance(at, (dict, list)) and at:
        key = chance.choice(list(at) if isinstance(at, dict) else range(len(at)))
        if isinstance(at[key], (dict, list)) and at[key] and chance.random() < 0.8:
            at = at[key]
            continue
        kind = chance.randrange(4)
        if kind == 0:
            del at[key]
        elif kind == 1 and isinstance(at, list):
            at.insert(key, at[key])
        elif kind == 2 and isinstance(at, dict):
            at[str(chance.choice(_VALUES))] = at.pop(key)
        else:
            at[key] = _near(chance, at[key])
        return value
    return chance.choice(_VALUES)


def _near(chance: Random, value: Any) -> Any:
    if type(value) is int and chance.random() < 0.5:
        return value + chance.choice((-1, 1, 8, -8))
    return chance.choice(_VALUES) if chance.random() < 0.8 else [chance.choice(_VALUES) for _ in range(LAYERS)]


def damaged_json(chance: Random, data: bytes) -> bytes:
    if chance.random() < 0.5:
        return mutated(chance, data)
    value = json.loads(data)
    for _ in range(chance.randint(1, 2)):
        value = reshaped(chance, value)
    return json.dumps(value).encode()


def damaged_tensors(chance: Random, data: bytes) -> bytes:
    """Return a safetensors file whose header, length or data is damaged."""
    if chance.random() < 0.3:
        return mutated(chance, data)
    length = struct.unpack("<Q", data[:8])[0]
    header = damaged_json(chance, data[8 : 8 + length])
    told = chance.choice((0, 1, 2**63, length)) if chance.random() < 0.1 else len(header)
    return struct.pack("<Q", told) + header + data[8 + length :]


@contextmanager
def replaced(path: Path, data: bytes) -> Iterator[None]:
    """Put other bytes into a file while the block runs."""
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except BoomerangError:
        return "refused"
    return "accepted"


# Targets


def headers(chance: Random, root: Path) -> str:
    """What is accepted has the tensors, bytes and all, that the safetensors library reads, unless it refuses more."""
    path, whole = root / "case.safetensors", (root / "teacher" / "model-0.safetensors").read_bytes()
    path.write_bytes(damaged_tensors(chance, whole))
    return outcome(lambda: _compare_with_library(path))


def _compare_with_library(path: Path) -> None:
    found, data = read_header(path), path.read_bytes()
    try:
        with safe_open(path, framework="np") as file:
            theirs = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in theirs.items()}
            assert shapes == {name: (tensor.dtype, tensor.shape) for name, tensor in found.items()}
            for name, tensor in found.items():
                assert file.get_tensor(name).tobytes() == data[tensor.start : tensor.stop]
    except SafetensorError:
        return


def index(chance: Random, root: Path) -> str:
    return _patched_with(chance, root, root / "teacher" / "model.safetensors.index.json")


def config(chance: Random, root: Path) -> str:
    path = root / chance.choice(("teacher", "teacher", "student")) / "config.json"
    if chance.random() < 0.5:
        return _patched_with(chance, root, path)
    family = chance.choice(_LIKE_LLAMA)
    other = root / "student" / "config.json" if path.parent.name == "teacher" else root / "teacher" / "config.json"
    with _as_family(path, family), _as_family(other, family):
        return _patched_with(chance, root, path)


def _as_family(path: Path, family: str) -> Any:
    return replaced(path, json.dumps({**json.loads(path.read_bytes()), "model_type": family}).encode())


def student_config(chance: Random, root: Path) -> str:
    return _patched_with(chance, root, root / "student" / "student_config.json")


def weights(chance: Random, root: Path) -> str:
    path = root / chance.choice(("teacher/model-0.safetensors", "student/model.safetensors"))
    return _patched_with(chance, root, path, damaged_tensors)


def _patched_with(
    chance: Random, root: Path, path: Path, damage: Callable[[Random, bytes], bytes] = damaged_json
) -> str:
    """Patch and verify a pair of which one file is damaged, and look whether anything stands where it should not."""
    before, output = names(root), root / "model"
    options: dict[str, Any] = {"layers": chance.randint(0, 2), "dtype": chance.choice(("auto", "auto", "float16"))}
    with replaced(path, damage(chance, path.read_bytes())):
        found = outcome(lambda: _check(patch(student=root / "student", output=output, verify=True, **options).path))
    assert found == "accepted" or not output.exists()
    shutil.rmtree(output, ignore_errors=True)
    assert names(root) == before
    return found


def _check(model: Path | None) -> None:
    assert model is not None
    written = json.loads((model / "config.json").read_text())
    depth = written["num_hidden_layers"]
    assert depth == len(json.loads((model / "boomerang.json").read_text())["layers"])
    assert all(len(written[key]) == depth for key in FAMILIES[written["model_type"]].layer_lists)
    assert "auto_map" not in written


def order(chance: Random, root: Path) -> str:
    """What is accepted has a set of k patchable blocks for each k."""
    path, layer_map = root / "order.json", LayerMap(LAYERS, KEPT)
    with replaced(path, damaged_json(chance, chance.choice((path.read_bytes(), b"[1, 0]")))):
        return outcome(lambda: _check_sets(find_order(str(path), layer_map, None, "last").sets))


def _check_sets(sets: tuple[tuple[int, ...], ...]) -> None:
    assert [len(set(blocks) & {0, 1}) for blocks in sets] == [0, 1, 2]
    assert [len(blocks) for blocks in sets] == [0, 1, 2]


def record(chance: Random, root: Path) -> str:
    path = root / "patched" / "boomerang.json"
    with replaced(path, damaged_json(chance, path.read_bytes())):
        return outcome(lambda: _check_texts(prepare(root / "patched", "me/model").texts))


def _check_texts(texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        assert text.startswith("---\n") if name == "README.md" else json.loads(text)


def card(chance: Random, root: Path) -> str:
    path = root / "teacher" / "README.md"
    with replaced(path, mutated(chance, _FRONT)):
        licence = read_license(path)
    assert licence is None or all(isinstance(value, str) for value in licence.values())
    return "accepted"


# Command lines

_WORDS = [
    "", " ", "-", "--", "0", "1", "2", "-1", "1e3", "1,2", "0-3", "3-0", "0-99999999", "1,,2", "9" * 400, "nan",
    "inf", "2B",
    "1.5", "4GB", "0B", ".5MB", "1" * 3000 + "x", "auto", "first", "last", "float16", "x" * 300, "é😀", "a b",
    "a\nb", "\x1b[2J",
    "..", "/", "/dev/null", "/proc/self/mem", "../student", "../teacher", "../patched", "../order.json", "out",
    "out/deep", "~nobody",
    "owner/name", "owner/name@x", "owner/..", "a/b/c", "a" * 200 + "/b", "builtin:demo", "@", "\udcff", "*",
    "$(id)", "%s",
]  # fmt: skip
_OPTIONS: dict[str, list[str]] = {
    "init-student": ["--output", "--every", "--keep-first", "--keep-last", "--keep", "--dtype", "--max-shard-size"],
    "patch": ["--layers", "--depth", "--params", "--size", "--blocks", "--order", "--student", "--teacher", "--keep",
              "--output", "--dtype", "--max-shard-size"],
    "push": ["--revision", "--message"],
}  # fmt: skip
_COMMAND = get_command(app)  # Typer makes it anew for each call, which takes longer than most calls
_FLAGS = ["--dry-run", "--json", "--quiet", "--overwrite", "--nothing"]


def command_line(chance: Random, root: Path) -> str:
    """Exit code 0 and a result, 1 and one line, or 2; nothing outside the project folder."""
    words, before = _command_words(chance), names(root)
    here = Path.cwd()
    os.chdir(root / "project")
    try:
        code, shown, told = _run(words)
    finally:
        os.chdir(here)
    assert code in (0, 1, 2), words
    if code == 1:
        lines = told.splitlines()
        assert shown == "", words
        assert len(lines) == 1, (words, lines)
        assert lines[0].startswith("error: "), words
        assert "unexpected" not in lines[0], (words, lines)
    assert names(root) == before, words
    shutil.rmtree(root / "project")
    (root / "project").mkdir()
    return "refused" if code else "accepted"


def _run(words: list[str]) -> tuple[Any, str, str]:
    """Run a command line in this process, with streams as strict as a shell's; return exit code, stdout and stderr."""
    out, errors = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape"),
        io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace"),
    )
    code: Any = 0
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            _COMMAND(words, prog_name="boomerang")
        except SystemExit as end:
            code = end.code
    out.flush(), errors.flush()
    return code, *(stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, errors))  # type: ignore[attr-defined]


def _command_words(chance: Random) -> list[str]:
    command = chance.choice(list(_OPTIONS))
    words = [command]
    if command == "patch":
        words += ["--student", "../student", *chance.choice((["--layers", "1"], ["--depth", "3"], []))]
    elif command == "init-student":
        words += [chance.choice(("../teacher", chance.choice(_WORDS)))]
    else:
        words += [chance.choice(("../patched", chance.choice(_WORDS))), chance.choice(_WORDS), "--dry-run"]
    for option in chance.sample(_OPTIONS[command], chance.randint(0, 2)):
        words += [option, chance.choice(_WORDS)]
    return words + chance.sample(_FLAGS, chance.randint(0, 2))


TARGETS: dict[str, Target] = {
    "safetensors headers": headers,
    "weights": weights,
    "index": index,
    "config.json": config,
    "student_config.json": student_config,
    "order files": order,
    "boomerang.json": record,
    "model cards": card,
    "command lines": command_line,
}
