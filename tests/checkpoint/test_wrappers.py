"""Multimodal models: the text layers are moved, all else goes with the first layer's owner."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from files import edit_json
from running import assert_refused, run
from safetensors.torch import load_file, save_file
from tiny_types import VOCABULARY
from wrapper_proof import check_exact, load, save_teacher

from boomerang_cli.engine.checkpoint import family_table
from boomerang_cli.engine.checkpoint.checkpoint import read_checkpoint
from boomerang_cli.engine.checkpoint.family_of import family_of
from boomerang_cli.engine.checkpoint.family_table import REFUSED, derived_rows, family_from_row, known_family, row_of
from boomerang_cli.engine.checkpoint.parts import take_apart
from boomerang_cli.engine.errors import SelectionError, UnsupportedModelError
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.models.intermediate import build_intermediate_model
from boomerang_cli.engine.patch import patch

KEPT = (0, 1, 2, 4, 5, 7)
TYPES: dict[str, dict[str, Any]] = {
    "gemma3": {"tie_word_embeddings": True},
    "mistral3": {"tie_word_embeddings": False},
    "llama4": {},
    "qwen3_vl": {"tie_word_embeddings": True},
    "qwen3_5": {},
    "qwen2_5_vl": {"tie_word_embeddings": True},
    "llava": {},
    "internvl/qwen3": {"tie_word_embeddings": False},
}


@pytest.mark.parametrize("model_type", TYPES)
def test_a_patched_model_reads_text_and_images_as_its_teacher_whose_dropped_layers_do_nothing(
    model_type: str, tmp_path: Path
) -> None:
    save_teacher(model_type, tmp_path / "teacher", **TYPES[model_type])
    assert check_exact(tmp_path / "teacher", [KEPT], [(1, "last")]) == "with an image"


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava") / "teacher"
    save_teacher("llava", folder)
    return folder


@pytest.fixture
def teacher(llava: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llava, tmp_path / "teacher"))


def respell(folder: Path, prefixes: dict[str, str]) -> None:
    """Rename a model's tensors by their prefixes."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    renamed = {}
    for name, tensor in tensors.items():
        theirs = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        renamed[prefixes.get(theirs, "") + name[len(theirs) :]] = tensor
    save_file(renamed, path, metadata={"format": "pt"})


def write_student_and_patch(teacher: Path) -> Path:
    student, output = teacher.parent / "student", teacher.parent / "patched"
    init_student(teacher, output=student, keep=KEPT)
    patch(layers=1, student=student, teacher=teacher, output=output)
    return output


def test_all_but_the_text_layers_is_carried_over_byte_for_byte(teacher: Path) -> None:
    output = write_student_and_patch(teacher)
    ours, theirs = read_checkpoint(output).tensors, read_checkpoint(teacher).tensors
    carried = {name for name in theirs if ".layers." not in name or "vision" in name}
    assert {name for name in ours if ".layers." not in name or "vision" in name} == carried
    written, source = load_file(output / "model.safetensors"), load_file(teacher / "model.safetensors")
    assert all(written[name].equal(source[name]) for name in carried)


def test_names_of_other_versions_become_those_of_the_type(teacher: Path) -> None:
    names = set(read_checkpoint(write_student_and_patch(teacher)).tensors)
    shutil.rmtree(teacher.parent / "student")
    shutil.rmtree(teacher.parent / "patched")
    respell(
        teacher,
        {
            "language_model.model.": "model.language_model.",
            "language_model.lm_head.": "lm_head.",
            "vision_tower.": "model.vision_tower.",
            "multi_modal_projector.": "model.multi_modal_projector.",
        },
    )
    load(teacher)
    output = write_student_and_patch(teacher)
    assert set(read_checkpoint(output).tensors) == names
    load(output)


def test_fields_that_the_text_part_leaves_to_its_class_are_asked_for(tmp_path: Path) -> None:
    config = save_teacher("gemma3", tmp_path / "teacher")
    whole = known_family(config, "it")
    assert whole is not None
    text = {
        key: value for key, value in config["text_config"].items() if key not in ("num_hidden_layers", "layer_types")
    }
    bare = {**config, "text_config": text}
    assert whole.teacher_depth(config) == 8
    assert whole.teacher_depth(bare) == 26


def test_fields_of_older_files_stand_at_the_top(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    config = save_teacher("qwen2_5_vl", teacher)
    text = config.pop("text_config")
    flat = {**text, **config, "rope_scaling": text["rope_parameters"]}
    for field in ("rope_parameters", "layer_types", "dtype"):
        flat.pop(field, None)
    (teacher / "config.json").write_text(json.dumps(flat))
    assert check_exact(teacher, [KEPT], [(1, "first")]) == "with an image"
    written = json.loads((tmp_path / f"patched-{len(KEPT)}-0" / "config.json").read_text())
    assert "text_config" not in written
    assert written["num_hidden_layers"] == len(written["layer_types"]) == 7


def test_untied_models_say_so_in_both_places(tmp_path: Path) -> None:
    config = save_teacher("gemma3", tmp_path / "teacher", tie_word_embeddings=True)
    assert config["tie_word_embeddings"]
    check_exact(tmp_path / "teacher", [KEPT], [(1, "last")])
    written = json.loads((tmp_path / f"patched-{len(KEPT)}-0" / "config.json").read_text())
    assert [written["tie_word_embeddings"], written["text_config"]["tie_word_embeddings"]] == [False, False]
    assert "language_model.lm_head.weight" in read_checkpoint(tmp_path / f"patched-{len(KEPT)}-0").tensors


def test_a_tie_of_the_text_part_counts_where_the_class_heeds_it(teacher: Path) -> None:
    edit_json(teacher / "config.json", tie_word_embeddings=False)
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(
        json.dumps({**config, "text_config": {**config["text_config"], "tie_word_embeddings": True}})
    )
    tensors = load_file(teacher / "model.safetensors")
    del tensors["language_model.lm_head.weight"]
    save_file(tensors, teacher / "model.safetensors", metadata={"format": "pt"})
    checkpoint = read_checkpoint(teacher)
    assert take_apart(checkpoint, family_of(checkpoint)).tied
    load(teacher)


def test_a_new_dtype_is_told_to_every_part(teacher: Path) -> None:
    init_student(teacher, output=teacher.parent / "student", keep=KEPT, dtype="bfloat16")
    written = json.loads((teacher.parent / "student" / "config.json").read_text())
    told = {written["dtype"], *(written[part].get("dtype") for part in ("text_config", "vision_config"))}
    assert told - {None} == {"bfloat16"}


def test_layers_behind_which_image_features_are_added_are_kept(tmp_path: Path) -> None:
    save_teacher("qwen3_vl", tmp_path / "teacher")
    student = init_student(tmp_path / "teacher", output=tmp_path / "student")
    assert student.copied_teacher_layers[:2] == (0, 1)
    with pytest.raises(SelectionError, match=r"adds image features behind layers 0,1 by their numbers.*--keep-first 2"):
        init_student(tmp_path / "teacher", output=tmp_path / "other", keep=(0, 2, 4, 6))
    assert not (tmp_path / "other").exists()


def test_processors_travel_and_the_card_says_what_it_does(teacher: Path) -> None:
    for name in ("preprocessor_config.json", "processor_config.json", "chat_template.jinja"):
        (teacher / name).write_text("{}")
    output = write_student_and_patch(teacher)
    assert {"preprocessor_config.json", "processor_config.json", "chat_template.jinja"} <= {
        path.name for path in output.iterdir()
    }
    card = (output / "README.md").read_text()
    assert "pipeline_tag: image-text-to-text" in card
    assert "AutoModelForImageTextToText.from_pretrained" in card


def test_it_is_verified_and_patched_back_to_the_teacher(teacher: Path) -> None:
    init_student(teacher, output=teacher.parent / "student")
    run("patch", "--student", teacher.parent / "student", "--layers", 3, "-o", teacher.parent / "all", "--verify")
    written, source = load_file(teacher.parent / "all" / "model.safetensors"), load_file(teacher / "model.safetensors")
    assert written.keys() == source.keys()
    assert all(written[name].equal(source[name]) for name in source)


def test_the_model_in_memory_is_the_one_that_is_written(teacher: Path) -> None:
    written = load(write_student_and_patch(teacher)).state_dict()
    built = build_intermediate_model(teacher, teacher.parent / "student", 1).state_dict()
    assert built.keys() == written.keys()
    assert all(tensor.equal(written[name]) for name, tensor in built.items())


def test_a_random_student_opens(teacher: Path) -> None:
    init_student(teacher, output=teacher.parent / "student", random_init=True)
    assert load(teacher.parent / "student").config.text_config.num_hidden_layers == 5


def test_a_known_type_needs_no_torch(teacher: Path) -> None:
    code = (
        "import sys\nfrom boomerang_cli.engine.init_student import init_student\n"
        f"init_student({str(teacher)!r}, output={str(teacher.parent / 'student')!r})\n"
        "sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_multimodal_type_of_the_installed_transformers_is_in_the_table() -> None:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    types = {name for name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES if "text_config" in _parts_of(name)}
    on_the_spot = {"kimi_k25", "qianfan_ocr"}  # published under other names than transformers writes
    types = {CONFIG_MAPPING[name].model_type for name in types}
    assert types - derived_rows().keys() - REFUSED.keys() == on_the_spot


def _parts_of(model_type: str) -> dict[str, Any]:
    from transformers import CONFIG_MAPPING

    parts: dict[str, Any] = CONFIG_MAPPING[model_type].sub_configs
    return parts


def test_rows_are_read_as_they_were_written() -> None:
    rows = {name: row for name, row in derived_rows().items() if "wrapper" in row}
    assert len(rows) > 60
    assert {name: json.loads(json.dumps(row_of(family_from_row(row)))) for name, row in rows.items()} == rows


def test_a_text_model_that_is_in_no_row_is_derived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: row for name, row in derived_rows().items() if name != "llava/mistral"}
    monkeypatch.setattr(family_table, "derived_rows", lambda: rows)
    save_teacher("llava/mistral", tmp_path / "teacher")
    checkpoint = read_checkpoint(tmp_path / "teacher")
    assert known_family(checkpoint.config, "it") is None
    wrapper = family_of(checkpoint).wrapper
    assert wrapper is not None
    assert wrapper.text_type == "mistral"


def test_a_quantised_text_part_is_refused(teacher: Path) -> None:
    config = json.loads((teacher / "config.json").read_text())
    config["text_config"]["quantization_config"] = {"quant_method": "fp8"}
    (teacher / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match="quantised weights or their scales"):
        init_student(teacher, output=teacher.parent / "student")


def test_training_and_scoring_say_that_they_take_text_models_alone(teacher: Path, tmp_path: Path) -> None:
    init_student(teacher, output=tmp_path / "student-init")
    (tmp_path / "text.txt").write_text("w3 w4 w5")
    assert_refused(
        "distill", tmp_path / "student-init", "--data", tmp_path / "text.txt", "-o", tmp_path / "student",
        "--sequence-length", 8, "--quiet", message="llava is a multimodal model, which init-student and patch work on",
    )  # fmt: skip


def test_a_vocabulary_that_contradicts_the_text_part_is_refused(teacher: Path) -> None:
    config = json.loads((teacher / "config.json").read_text())
    config["text_config"]["vocab_size"] = VOCABULARY + 1
    (teacher / "config.json").write_text(json.dumps(config))
    assert_refused("init-student", teacher, "-o", teacher.parent / "student", message="the vocab_size 129")
