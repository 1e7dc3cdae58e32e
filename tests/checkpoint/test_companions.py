"""What belongs to a model beside its weights: what is on the list, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from files import names
from hub_double import HubDouble
from tiny_models import make_config, make_model, make_tokenizer

from boomerang_cli.engine.checkpoint.companions import is_companion
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.patch import patch

TEMPLATE = "additional_chat_templates/tools.jinja"
BELONGS = (
    "tokenizer.json", "merges.txt", "qwen.tiktoken", "tokenizer.model.v3", "chat_template.jinja", TEMPLATE,
    "video_preprocessor_config.json", "generation_config.json", "LICENSE", "license.md", "USE_POLICY.md", "Notice.txt",
)  # fmt: skip
FOREIGN = (
    ".env", "secrets.env", "train.log", "params.json", "trainer_state.json", "pytorch_model.bin", "model.onnx_data",
    "model.safetensors.part", "adapter_config.json", "LICENSE.py", "license.env", "additional_chat_templates/.env",
    "additional_chat_templates/run.py", "original/tokenizer.model",
    "additional_chat_templates/..\\x.jinja", "tokenizer.json.tmp", "config.json", "README.md",
)  # fmt: skip


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    folder = tmp_path / "teacher"
    make_model(make_config("llama"), 1).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", BELONGS)
def test_a_file_that_belongs_to_a_model_is_known(name: str) -> None:
    assert is_companion(name)


@pytest.mark.parametrize("name", FOREIGN)
def test_any_other_file_is_none_of_its(name: str) -> None:
    assert not is_companion(name)


def test_what_a_tokenizer_saves_belongs_to_its_model(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = {"default": "{{ messages }}", "tools": "{{ tools }}"}  # type: ignore[assignment]
    tokenizer.save_pretrained(tmp_path)
    saved = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert TEMPLATE in saved
    assert [name for name in saved if not is_companion(name)] == []


def test_named_chat_templates_go_along_and_foreign_files_do_not(teacher: Path, tmp_path: Path) -> None:
    (teacher / TEMPLATE).parent.mkdir()
    for name in (TEMPLATE, ".env", "train.log", "params.json", "model.fp16.safetensors"):
        (teacher / name).write_text(name)
    student = init_student(teacher, output=tmp_path / "student").path
    patched = patch(student=student, teacher=teacher, layers=1, output=tmp_path / "patched", verify=True).path
    for folder in (student, patched):
        assert folder is not None
        assert (folder / TEMPLATE).read_text() == TEMPLATE
        assert not {".env", "train.log", "params.json", "model.fp16.safetensors"} & set(names(folder))


def test_a_folder_of_templates_that_is_a_link_is_not_followed(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "private.jinja").write_text("x")
    (teacher / "additional_chat_templates").symlink_to(tmp_path / "elsewhere")
    student = init_student(teacher, output=tmp_path / "student").path
    assert "additional_chat_templates" not in names(student)


@pytest.mark.parametrize("download", [False, True])
def test_named_chat_templates_come_from_the_hub_and_foreign_files_do_not(
    download: bool, hub: HubDouble, teacher: Path, tmp_path: Path
) -> None:
    for name in (TEMPLATE, "train.log", "original/tokenizer.model"):
        (teacher / name).parent.mkdir(exist_ok=True)
        (teacher / name).write_text(name)
    hub.add_model("lab/teacher", teacher)
    student = init_student("lab/teacher", output=tmp_path / "student", download=download).path
    assert (student / TEMPLATE).read_text() == TEMPLATE
    assert "train.log" not in names(student)
    fetched = {path.name for path in (tmp_path / "cache").rglob("snapshots/*/*")}
    assert not {"train.log", "original"} & fetched
