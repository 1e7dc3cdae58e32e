"""A patched model is a student: it is patched further as the student that it came from would have been, and healed."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_models import KEPT, LAYERS, save_pair

from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.student_config import read_student_config
from boomerang_cli.engine.patch import patch

N = 3
ORDERS = list(permutations(LayerMap(LAYERS, KEPT).patchable))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pairs whose embedding is tied to the head, and whose are not."""
    root = tmp_path_factory.mktemp("pairs")
    made = {}
    for name in ("tied", "untied"):
        made[name] = root / name
        save_pair(made[name], "llama", tie_word_embeddings=name == "tied")
    return made


def files_of(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the bytes of each tensor, and the configuration."""
    tensors = {name: tensor.numpy().tobytes() for name, tensor in load_file(folder / "model.safetensors").items()}
    return tensors, json.loads((folder / "config.json").read_text())


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["tied", "untied"]),
    st.sampled_from(["first", "last", *ORDERS]),
    st.integers(0, N),
    st.integers(0, N),
)
@example("tied", (3, 0, 1), 1, 1)  # one end and then the other: embedding and head are the teacher's one matrix again
@example("tied", (0, 3, 1), 1, 1)
def test_patching_twice_is_patching_at_once(
    folders: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    order: Any,
    k: int,
    m: int,
) -> None:
    m, folder, out = min(m, N - k), folders[kind], tmp_path_factory.mktemp("patched")
    if isinstance(order, tuple):
        (out / "order.json").write_text(json.dumps(order))
        order = str(out / "order.json")
    patch(layers=k, student=folder / "student", order=order, output=out / "first")
    twice = patch(layers=m, student=out / "first", output=out / "twice")
    once = patch(layers=k + m, student=folder / "student", order=order, output=out / "once")
    assert files_of(out / "twice") == files_of(out / "once")
    assert twice.tied_embeddings == once.tied_embeddings


def test_it_keeps_the_teacher_layers_of_its_layers(folders: dict[str, Path], tmp_path: Path) -> None:
    patch(blocks=[1], student=folders["untied"] / "student", output=tmp_path / "model")
    recorded = read_student_config(tmp_path / "model")
    assert recorded.layer_map == LayerMap(LAYERS, (0, 2, 3, 4, 5, 7))
    assert recorded.layer_map.patchable == (0, 4)
    assert recorded.teacher == str(folders["untied"] / "teacher")


@pytest.mark.parametrize(("order", "remains"), [("last", "last"), ([1, 3, 0], [4, 0]), ([3, 0, 1], [0, 1])])
def test_the_order_that_remains_is_recorded(folders: dict[str, Path], tmp_path: Path, order: Any, remains: Any) -> None:
    if isinstance(order, list):
        (tmp_path / "order.json").write_text(json.dumps(order))
    given = order if isinstance(order, str) else str(tmp_path / "order.json")
    patch(layers=1, student=folders["untied"] / "student", order=given, output=tmp_path / "model")
    assert json.loads((tmp_path / "model" / "student_config.json").read_text())["order"] == remains


def test_sets_that_are_not_nested_leave_the_student_its_own_order(folders: dict[str, Path], tmp_path: Path) -> None:
    order = {"order": "exact", "patched_blocks": [[], [1], [0, 3], [0, 1, 3]]}
    (tmp_path / "order.json").write_text(json.dumps(order))
    path = str(tmp_path / "order.json")
    patch(layers=1, student=folders["untied"] / "student", order=path, output=tmp_path / "model")
    assert read_student_config(tmp_path / "model").order == "first"  # llama's


def test_the_teacher_itself_has_nothing_left_to_patch(folders: dict[str, Path], tmp_path: Path) -> None:
    patch(layers=N, student=folders["untied"] / "student", output=tmp_path / "model")
    again = patch(layers=0, student=tmp_path / "model", output=tmp_path / "again")
    assert read_student_config(tmp_path / "model").layer_map.patchable == ()
    assert files_of(again.path) == files_of(tmp_path / "model")  # type: ignore[arg-type]
