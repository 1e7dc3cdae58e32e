"""The package as Python imports it: the verbs at its top, and README's pipeline, run as it stands there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from distilling import make_project
from hub_double import HubDouble

import boomerang_cli
from boomerang_cli.engine.distillation.recipes import recipe_of

README = Path(__file__).parents[1] / "README.md"
SMALLER = {
    "EleutherAI/pythia-2.8b": "teacher",
    "corpus/": "train.txt",
    "valid.txt": "held-out.txt",
    "batch_size=64, sequence_length=1024": "steps=2, batch_size=2, sequence_length=16, micro_batch_size=2",
    'order=["last", "greedy"]': 'order=["last", "greedy"], sequence_length=16',
    "row.kl < 0.1": "0 < row.kl",
    "me/pythia-in-between": "tester/in-between",
}
"""What README's pipeline is told apart from the project that it runs in here."""


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_readmes_pipeline_runs_from_a_teacher_to_the_hub(
    tmp_path: Path, hub: HubDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student-init").rename("found-elsewhere")
    pipeline = python_blocks()[0]
    for shown, here in SMALLER.items():
        assert shown in pipeline
        pipeline = pipeline.replace(shown, here)
    assert len(pipeline.split("\n\n")[1].splitlines()) <= 10
    exec(pipeline, {})
    assert {"student-init", "student", "sweep"} < {path.name for path in tmp_path.iterdir()}
    assert "model.safetensors" in hub.files("tester/in-between")


def test_the_other_block_asks_for_what_there_is() -> None:
    (call,) = re.findall(r"build_intermediate_model\((.*?)\)\n", python_blocks()[1], re.DOTALL)
    named = set(re.findall(r"(\w+)=", call))
    assert named <= set(inspect.signature(boomerang_cli.build_intermediate_model).parameters)


@pytest.mark.parametrize("verb", ["init_student", "distill", "patch", "sweep", "push"])
def test_a_verb_takes_what_its_command_takes(verb: str) -> None:
    command = getattr(import_module(f"boomerang_cli.cli.{verb}"), verb)
    spoken = {"as_json", "quiet", "gpus"}  # what a command says, and how it starts itself
    switched = {f"no_{part}": part for part in ("cross_entropy", "kl", "cosine")} | {"sft_no_kl": "sft_kl"}
    typed = {switched.get(name, name) for name in inspect.signature(command).parameters} - spoken
    assert typed <= set(inspect.signature(getattr(boomerang_cli, verb)).parameters)


def test_one_text_may_stand_without_a_list(tmp_path: Path) -> None:
    student = boomerang_cli.init_student("builtin:demo", output=tmp_path / "student").path
    (tmp_path / "text.txt").write_text("Once")
    alone, listed = (
        boomerang_cli.sweep(student=student, data=data, order=order, dry_run=True)
        for data, order in ((tmp_path / "text.txt", "last"), ([str(tmp_path / "text.txt")], ["last"]))
    )
    assert (alone.data, alone.rows) == (listed.data, listed.rows)
    assert recipe_of("paper", data="text.txt", eval_data=Path("held-out.txt")) == recipe_of(
        "paper", data=["text.txt"], eval_data=["held-out.txt"]
    )


def test_the_package_offers_its_verbs_and_imports_nothing_heavy() -> None:
    code = "import sys, boomerang_cli; boomerang_cli.patch; print(sorted(dir(boomerang_cli)), *sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.startswith(str(sorted(boomerang_cli.__all__)))
    assert not {"torch", "transformers", "huggingface_hub"} & set(shown.split())


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'unpatch'"):
        boomerang_cli.unpatch  # noqa: B018
