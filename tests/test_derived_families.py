"""Types of the derived table: exact on tiny models, as transformers has them, and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from family_proof import KEPT_SETS, check_exact, derive_row, save_teacher
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from boomerang_cli.engine.checkpoint import family_of as family_of_module
from boomerang_cli.engine.checkpoint.checkpoint import read_checkpoint
from boomerang_cli.engine.checkpoint.families import FAMILIES
from boomerang_cli.engine.checkpoint.family_of import family_of
from boomerang_cli.engine.checkpoint.family_table import (
    REFUSED,
    derived_rows,
    family_from_row,
    known_family,
    row_of,
)
from boomerang_cli.engine.errors import UnsupportedModelError
from boomerang_cli.engine.init_student import init_student

TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
POPULAR: dict[str, dict[str, Any]] = {
    "olmo3": UNTIED, "granite": TIED, "cohere2": TIED, "glm4": UNTIED, "phimoe": UNTIED, "starcoder2": TIED,
    "falcon": UNTIED, "stablelm": UNTIED, "exaone4": TIED, "qwen2_moe": UNTIED, "qwen3_5_text": TIED, "lfm2": TIED,
    "llama4_text": UNTIED, "ernie4_5": TIED, "hunyuan_v1_dense": TIED, "nemotron": UNTIED, "seed_oss": UNTIED,
    "apertus": UNTIED, "minimax_m2": UNTIED, "mamba2": UNTIED, "glm4_moe": UNTIED, "bloom": TIED, "gemma": TIED,
}  # fmt: skip
ABSENT = ("olmo3", "cohere2", "exaone4", "qwen3_5_text", "lfm2", "llama4_text", "glm4_moe", "ernie4_5_moe")


@pytest.mark.parametrize("model_type", POPULAR)
def test_a_patched_model_is_its_teacher_whose_dropped_layers_do_nothing(model_type: str, tmp_path: Path) -> None:
    config = save_teacher(model_type, tmp_path / "teacher", **POPULAR[model_type])
    family = known_family(config, model_type)
    assert family is not None
    assert check_exact(tmp_path / "teacher", family, KEPT_SETS[:1], [(1, "last")]) == ""


@pytest.mark.parametrize("model_type", ABSENT)
def test_lists_that_config_json_leaves_to_the_class_are_followed(model_type: str, tmp_path: Path) -> None:
    family = known_family({"model_type": model_type}, model_type)
    assert family is not None
    fields = [*family.layer_lists, *dict(family.numbered), *dict(family.thresholds)]
    assert fields
    save_teacher(model_type, tmp_path / "teacher", absent=fields)
    assert check_exact(tmp_path / "teacher", family, KEPT_SETS[1:], [(1, "first")]) == ""


def test_which_layers_have_experts_is_told_by_their_list_and_by_a_period_where_one_holds(tmp_path: Path) -> None:
    step = "interleave_moe_layer_step"
    save_teacher("llama4_text", tmp_path / "teacher", absent=["moe_layers"], moe_layers=None, **{step: 2})
    family = known_family({"model_type": "llama4_text"}, "llama4_text")
    assert family is not None
    assert check_exact(tmp_path / "teacher", family, [(0, 1, 2, 5, 7)], [(0, "last"), (1, "last")]) == ""
    configs = [json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("student-5", "teacher")]
    assert [config.get(step) for config in configs] == [None, 2]
    assert configs[0]["moe_layers"] == [1, 3, 4]


@pytest.mark.parametrize("model_type", ["granite", "cohere2", "llama4_text", "glm4_moe"])
def test_the_table_says_what_the_installed_transformers_does(model_type: str, tmp_path: Path) -> None:
    save_teacher(model_type, tmp_path / "teacher")
    assert json.loads(json.dumps(derive_row(tmp_path / "teacher"))) == derived_rows()[model_type]


def test_every_causal_type_of_the_installed_transformers_is_in_a_table() -> None:
    from transformers import CONFIG_MAPPING

    types = {CONFIG_MAPPING[name].model_type for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    assert types - FAMILIES.keys() - REFUSED.keys() - derived_rows().keys() == set()


def test_rows_are_read_as_they_were_written() -> None:
    rows = {name: row for name, row in derived_rows().items() if "refused" not in row}
    assert {name: json.loads(json.dumps(row_of(family_from_row(row)))) for name, row in rows.items()} == rows
    assert list(derived_rows()) == sorted(derived_rows())
    assert not rows.keys() & (FAMILIES.keys() | REFUSED.keys())


def test_a_type_that_cannot_be_moved_is_refused_with_its_reason() -> None:
    with pytest.raises(UnsupportedModelError, match="layers of zamba cannot be moved, they share weights"):
        known_family({"model_type": "zamba"}, "a model")


def test_a_type_in_no_table_is_derived_and_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_teacher("granite", tmp_path / "teacher")
    known = known_family({"model_type": "granite"}, "a model")
    monkeypatch.delitem(derived_rows(), "granite")
    heard: list[str] = []
    monkeypatch.setattr(family_of_module, "on_derived", lambda name, model_type: heard.append(model_type))
    assert family_of(read_checkpoint(tmp_path / "teacher")) == known
    assert heard == ["granite"]


def test_a_type_in_no_table_that_cannot_be_moved_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_teacher("jamba", tmp_path / "teacher")
    monkeypatch.delitem(derived_rows(), "jamba")
    with pytest.raises(UnsupportedModelError, match="unknown model_type 'jamba': layer 2 is another as layer 1"):
        init_student(tmp_path / "teacher", output=tmp_path / "student")


def test_a_type_of_the_table_is_handled_without_torch(tmp_path: Path) -> None:
    save_teacher("olmo3", tmp_path / "teacher")
    code = (
        "import sys\nfrom boomerang_cli.engine.init_student import init_student\n"
        f"init_student({str(tmp_path / 'teacher')!r}, output={str(tmp_path / 'student')!r})\n"
        "sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_table_is_read_in_a_moment() -> None:
    times = []
    for _ in range(5):
        derived_rows.cache_clear()
        started = time.perf_counter()
        derived_rows()
        times.append(time.perf_counter() - started)
    assert min(times) < 0.01
