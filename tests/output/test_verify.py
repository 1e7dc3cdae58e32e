"""``patch --verify``: whatever is wrong in a written model is found before the model takes its place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from files import edit_json, flip, names
from running import assert_refused, run
from tiny_models import save_pair

from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.output import writer
from boomerang_cli.engine.output.verify import Verification, verify_model
from boomerang_cli.engine.patch import PatchResult, patch


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    teacher, student = save_pair(tmp_path, "gpt_neox")
    (teacher / "LICENSE").write_text("free")
    return teacher, student


def written(tmp_path: Path, **options: Any) -> PatchResult:
    return patch(**{"student": tmp_path / "student", "output": tmp_path / "model", "layers": 2, **options})


@pytest.mark.parametrize("options", [{}, {"max_shard_size": "20KB"}, {"dtype": "bfloat16"}, {"dtype": "float16"}])
def test_a_good_model_is_compared_whole(options: dict[str, Any], pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = written(tmp_path, verify=True, **options)
    assert result.verified == Verification(len(result.plan.copies), result.bytes, 0)


def test_every_flipped_byte_of_a_tensor_is_found(pair: tuple[Path, Path], tmp_path: Path) -> None:
    plan, path = written(tmp_path).plan, tmp_path / "model" / "model.safetensors"
    for position in range(path.stat().st_size - plan.size_bytes, path.stat().st_size, 4999):
        flip(path, position)
        with pytest.raises(OutputError, match=r"model\.safetensors does not hold .* as .*/model\.safetensors"):
            verify_model(plan, tmp_path / "model")
        flip(path, position)


def test_a_wrong_byte_of_a_converted_tensor_is_found(pair: tuple[Path, Path], tmp_path: Path) -> None:
    plan = written(tmp_path, dtype="bfloat16").plan
    flip(tmp_path / "model" / "model.safetensors", -1)
    with pytest.raises(OutputError, match="does not hold"):
        verify_model(plan, tmp_path / "model")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file too many": (lambda model: (model / "extra").touch(), "other files than planned: extra"),
    "a file too few": (lambda model: (model / "LICENSE").unlink(), "other files than planned: LICENSE"),
    "another configuration": (lambda model: edit_json(model / "config.json", rope_theta=1), "config.json is not as it"),
    "another record": (lambda model: edit_json(model / "boomerang.json", k=9), "boomerang.json is not as it was"),
    "another companion": (
        lambda model: (model / "LICENSE").write_text("mine"),
        "LICENSE is not like .*teacher/LICENSE",
    ),
    "no weights": (lambda model: (model / "model.safetensors").unlink(), "cannot be read again: .* has no model.safe"),
    "short weights": (
        lambda model: (model / "model.safetensors").write_bytes(b"short"),
        "cannot be read again: .*trunc",
    ),
    "the student's weights": (
        lambda model: shutil.copy(model.parent / "student" / "model.safetensors", model),
        "does not hold .* as it was planned",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_differs_from_the_plan_is_found(case: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    spoil, message = SPOILT[case]
    plan = written(tmp_path).plan
    spoil(tmp_path / "model")
    with pytest.raises(OutputError, match=message):
        verify_model(plan, tmp_path / "model")


def test_a_wrong_model_never_takes_its_place(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files = writer.write_files

    def wrong(plan: Any, folder: Path, **options: Any) -> None:
        write_files(plan, folder, **options)
        flip(folder / "model.safetensors", -1)

    monkeypatch.setattr(writer, "write_files", wrong)
    words = ("patch", "--layers", 1, "--student", pair[1], "-o", tmp_path / "model", "--verify")
    assert_refused(*words, message=r"model\.safetensors does not hold")
    assert names(tmp_path) == ["student", "teacher"]


def test_the_command_tells_what_it_compared(pair: tuple[Path, Path], tmp_path: Path) -> None:
    words = ("patch", "--layers", 1, "--student", pair[1], "-o", tmp_path / "model", "--verify")
    assert "verified: " in run(*words).stderr
    told = json.loads(run(*words, "--overwrite", "--json").stdout)
    assert told["verified"]["bytes"] == told["bytes"]
