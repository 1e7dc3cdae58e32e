"""``boomerang families``: what works, what is special, what is refused and why; and errors that point there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from family_proof import save_teacher
from files import edit_json, processor_seconds_of_children
from running import assert_refused, run
from tiny_models import save_pair

from boomerang_cli.engine.checkpoint.families import FAMILIES
from boomerang_cli.engine.checkpoint.family_list import list_families
from boomerang_cli.engine.checkpoint.family_table import REFUSED, derived_rows


def test_every_type_of_the_tables_is_listed_once() -> None:
    content = json.loads(run("families", "--json").stdout)
    listed = [entry["model_type"] for entry in content["families"]]
    assert listed == sorted(listed)
    assert sorted([*listed, *content["refused"]]) == sorted({*FAMILIES, *REFUSED, *derived_rows()})


@pytest.mark.parametrize(
    ("model_type", "special"),
    [
        ("mistral", ()),
        ("gemma3_text", ("hybrid layers kept in proportion",)),
        ("deepseek_v3", ("dense and expert layers kept in proportion",)),
        ("llama4_text", ("hybrid, dense and expert layers kept in proportion",)),
        ("roberta", ("encoder: init-student and patch only",)),
        ("distilbert", ("encoder: init-student and patch only",)),
        ("qwen3_vl", ("multimodal: its text layers, by init-student and patch only",)),
        ("whisper", ("the decoder of an encoder-decoder, saved alone",)),
        ("gpt_neox_japanese", ("the last layer is always kept",)),
        ("minicpm3", ("scale_depth follows the depth",)),
        ("llama", ("patched from the start", "keeps 2 layers at the start, 1 at the end")),
    ],
)
def test_what_is_special_of_a_type_is_said(model_type: str, special: tuple[str, ...]) -> None:
    found = {entry.model_type: entry for entry in list_families().families}[model_type]
    assert found.special == special
    assert found.distillable == (model_type not in ("roberta", "distilbert", "qwen3_vl"))


def test_a_text_picks_types_by_their_names_the_refused_too() -> None:
    lines = run("families", "Zamba").stdout.splitlines()
    assert lines[0] == "zamba   refused: they share weights with one another"
    assert len(lines) == 2
    assert all("qwen3" in line.split()[0] for line in run("families", "qwen3").stdout.splitlines())


def test_the_refused_are_listed_with_their_reasons() -> None:
    result = run("families", "--refused")
    rows = dict(line.split("  refused: ") for line in result.stdout.splitlines())
    assert {name.strip() for name in rows} == {*list_families().refused}
    assert (rows["diffllama".ljust(max(map(len, rows)))], result.stderr) == ("its attention uses the layer's index", "")


def test_the_whole_list_says_how_many_it_leaves_out() -> None:
    found = list_families()
    expected = (
        f"{len(found.families)} types; `boomerang families --refused` lists {len(found.refused)} that do not work\n"
    )
    assert run("families").stderr == expected
    assert run("families", "-q").stderr == ""


def test_a_type_in_no_table_is_said_to_be_derived_on_the_spot() -> None:
    result = run("families", "gemma3_txt")
    assert result.stdout == ""
    assert "(nearest: gemma3_text, " in result.stderr
    assert "is derived on the spot, if the installed transformers has its class" in result.stderr


def test_nothing_refused_is_said_too() -> None:
    assert run("families", "--refused", "olmo").stderr.endswith(" types is refused\n")


def test_a_model_of_an_unknown_type_hears_of_the_nearest_and_of_the_list(tmp_path: Path) -> None:
    teacher, _ = save_pair(tmp_path, "llama")
    edit_json(teacher / "config.json", model_type="qwen3_mooe")
    assert_refused(
        *("init-student", teacher, "-o", tmp_path / "init"),
        message=r"unknown model_type 'qwen3_mooe': the installed transformers has no causal language model of the type "
        r"\(nearest: qwen3_moe, .*; `boomerang families` lists the types that work\)",
    )
    edit_json(teacher / "config.json", model_type="~~~")
    assert_refused(
        *("init-student", teacher, "-o", tmp_path / "init"),
        message=r"of the type \(`boomerang families` lists the types that work\)",
    )


def test_the_list_is_there_in_a_moment_without_torch() -> None:
    code = (
        "import sys\nfrom boomerang_cli.cli.app import app\ntry: app(['families'])\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'transformers', 'huggingface_hub', 'numpy', 'rich'} & sys.modules.keys()))"
    )
    times = []
    for _ in range(3):
        started = processor_seconds_of_children()
        assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
        times.append(processor_seconds_of_children() - started)
    assert min(times) < 0.3


def test_nobody_is_told_to_distil_an_encoder(tmp_path: Path) -> None:
    save_teacher("roberta", tmp_path / "teacher")
    assert "hint" not in run("init-student", tmp_path / "teacher", "-o", tmp_path / "student").stderr
