"""``patch``: bytes where they belong, sizes as asked for, and pairs that do not belong together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from files import edit_json, names, tensor_bytes
from running import assert_refused
from safetensors.torch import load_file, save_file
from tiny_models import KEPT, load, save_pair, text
from transformers import AutoModelForMaskedLM, BertConfig, DistilBertConfig

from boomerang_cli.engine.errors import ModelNotFoundError, PairError
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.patch import PatchResult, patch


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return save_pair(tmp_path, "gpt_neox")


def patch_to(tmp_path: Path, **options: Any) -> PatchResult:
    return patch(**{"student": tmp_path / "student", "output": tmp_path / "model", **options})


# Exactness of bytes


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("family", ["gpt_neox", "qwen3", "mixtral"])
def test_patching_everything_gives_the_teachers_bytes(family: str, order: str, tmp_path: Path) -> None:
    teacher, _ = save_pair(tmp_path, family)
    assert tensor_bytes(patch_to(tmp_path, layers=3, order=order).path) == tensor_bytes(teacher)


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("family", ["gpt_neox", "qwen3", "mixtral"])
def test_patching_nothing_gives_the_students_bytes(family: str, order: str, tmp_path: Path) -> None:
    _, student = save_pair(tmp_path, family)
    assert tensor_bytes(patch_to(tmp_path, layers=0, order=order).path) == tensor_bytes(student)


def test_tied_pair_comes_out_untied_with_both_matrices(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "qwen3")
    result = patch_to(tmp_path, layers=1, order="last")
    tensors = tensor_bytes(result.path)
    assert not result.tied_embeddings
    assert tensors["model.embed_tokens.weight"] == tensor_bytes(student)["model.embed_tokens.weight"]
    assert tensors["lm_head.weight"] == tensor_bytes(teacher)["model.embed_tokens.weight"]
    assert json.loads((result.path / "config.json").read_text())["tie_word_embeddings"] is False


def test_tied_pair_stays_tied_where_one_model_owns_both_ends(tmp_path: Path) -> None:
    save_pair(tmp_path, "qwen3")
    result = patch_to(tmp_path, blocks=[1])
    assert result.tied_embeddings
    assert "lm_head.weight" not in tensor_bytes(result.path)


def test_models_of_one_dtype_keep_it(pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert patch_to(tmp_path, layers=1).dtype == "float32"


def test_models_of_two_dtypes_become_bfloat16(pair: tuple[Path, Path], tmp_path: Path) -> None:
    load(pair[0]).half().save_pretrained(tmp_path / "half")
    result = patch_to(tmp_path, layers=1, teacher=tmp_path / "half")
    assert {dtype for dtype, _, _ in tensor_bytes(result.path).values()} == {"BF16"}
    assert result.dtype == "bfloat16"


# What families left behind in old files


def test_old_pythia_buffers_are_dropped(pair: tuple[Path, Path], tmp_path: Path) -> None:
    teacher, _ = pair
    tensors = load_file(teacher / "model.safetensors")
    for layer in range(8):
        base = f"gpt_neox.layers.{layer}.attention."
        tensors |= {base + "bias": torch.ones(1, 1, 4, 4).bool(), base + "masked_bias": torch.tensor(-1e9)}
        tensors[base + "rotary_emb.inv_freq"] = torch.ones(2)
    save_file(tensors, teacher / "model.safetensors", metadata={"format": "pt"})
    load(patch_to(tmp_path, layers=2).path)  # refuses what is left over


def test_student_with_the_teachers_whole_layer_types_is_repaired(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "qwen3")
    expected = load(patch_to(tmp_path, layers=1).path)
    whole = json.loads((teacher / "config.json").read_text())["layer_types"]
    edit_json(student / "config.json", layer_types=whole)
    repaired = load(patch_to(tmp_path, layers=1, output=tmp_path / "repaired").path)
    with torch.no_grad():
        assert torch.equal(repaired(text()).logits, expected(text()).logits)


def test_files_saved_from_the_body_alone_are_understood(tmp_path: Path) -> None:
    teacher, _ = save_pair(tmp_path, "gpt2")
    expected = tensor_bytes(patch_to(tmp_path, layers=1).path)
    tensors = load_file(teacher / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(bare, teacher / "model.safetensors", metadata={"format": "pt"})
    assert tensor_bytes(patch_to(tmp_path, layers=1, output=tmp_path / "bare").path) == expected


def test_extra_prediction_layers_are_dropped(tmp_path: Path) -> None:
    teacher, _ = save_pair(tmp_path, "deepseek_v3")
    tensors = load_file(teacher / "model.safetensors")
    extra = {n.replace(".7.", ".8."): t.clone() for n, t in tensors.items() if n.startswith("model.layers.7.")}
    save_file({**tensors, **extra}, teacher / "model.safetensors", metadata={"format": "pt"})
    edit_json(teacher / "config.json", num_nextn_predict_layers=1)
    result = patch_to(tmp_path, layers=1)
    load(result.path)
    assert json.loads((result.path / "config.json").read_text())["num_nextn_predict_layers"] == 0


@pytest.mark.parametrize("family", [BertConfig, DistilBertConfig])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_models_that_predict_masked_words_open_with_every_weight(family: Any, k: int, tmp_path: Path) -> None:
    config = family(hidden_size=32, num_hidden_layers=6, num_attention_heads=4, vocab_size=64)
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "teacher")
    init_student(tmp_path / "teacher", output=tmp_path / "student")
    _, report = AutoModelForMaskedLM.from_pretrained(patch_to(tmp_path, layers=k).path, output_loading_info=True)
    assert not any(report.values())


# The folder


def test_folder_opens_with_the_teachers_tokenizer_and_says_where_it_comes_from(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    teacher, _ = pair
    (teacher / "chat_template.jinja").write_text("{{ messages }}")
    (teacher / "modeling.py").write_text("raise SystemExit")
    (teacher / "pytorch_model.bin").write_text("x")
    result = patch_to(tmp_path, layers=2)
    made = json.loads((result.path / "boomerang.json").read_text())
    others = {*names(teacher)} - {"modeling.py", "pytorch_model.bin"}
    assert {*names(result.path)} == others | {"boomerang.json", "student_config.json", "README.md"}
    assert (made["k"], made["order"], made["patched_blocks"]) == (2, "last", [1, 3])
    assert made["layers"] == [{"owner": "student", "index": 0}] + [
        {"owner": "teacher", "index": index} for index in range(2, 8)
    ]


def test_code_and_its_name_in_the_configuration_stay_behind(pair: tuple[Path, Path], tmp_path: Path) -> None:
    edit_json(pair[0] / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Evil"})
    assert "auto_map" not in json.loads((patch_to(tmp_path, layers=2).path / "config.json").read_text())


def test_tensors_stand_in_the_order_of_the_source_files_in_few_copies(pair: tuple[Path, Path], tmp_path: Path) -> None:
    plan = patch_to(tmp_path, layers=1, dry_run=True).plan
    positions = [(copy.owner, copy.source.start) for copy in plan.copies]
    assert positions == sorted(positions)
    assert sum(len(shard.runs) for shard in plan.shards) <= 5 < len(plan.copies)


def test_other_values_of_the_configuration_stay_as_they_are(pair: tuple[Path, Path], tmp_path: Path) -> None:
    edit_json(pair[0] / "config.json", rope_theta=123.0, a_key_of_the_future={"kept": [1, 2]})
    before = json.loads((pair[0] / "config.json").read_text())
    after = json.loads((patch_to(tmp_path, layers=1).path / "config.json").read_text())
    assert after.pop("boomerang")["copied_teacher_layers"] == [0, 2, 4, 5, 6, 7]
    assert after == {**before, "num_hidden_layers": 6}


# Which size


@pytest.mark.parametrize(
    ("selection", "blocks"),
    [
        ({"layers": 1}, (3,)),
        ({"depth": 7}, (1, 3)),
        ({"blocks": [3, 0]}, (0, 3)),
        ({"params": "1B"}, (0, 1, 3)),
        ({"size": "1GB"}, (0, 1, 3)),
    ],
)
def test_a_size_is_asked_for_in_five_ways(
    selection: dict[str, Any], blocks: tuple[int, ...], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    assert patch_to(tmp_path, **selection, dry_run=True).patched_blocks == blocks


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_params_and_size_give_the_largest_model_within(k: int, pair: tuple[Path, Path], tmp_path: Path) -> None:
    exact = patch_to(tmp_path, layers=k, dry_run=True)
    assert patch_to(tmp_path, params=str(exact.parameters), dry_run=True).layers == k
    assert patch_to(tmp_path, size=str(exact.bytes), dry_run=True).layers == k
    if k:
        assert patch_to(tmp_path, params=str(exact.parameters - 1), dry_run=True).layers == k - 1
        assert patch_to(tmp_path, size=str(exact.bytes - 1), dry_run=True).layers == k - 1


def test_default_output_names_the_depth(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert patch(layers=1).path == Path("patched-6L")
    assert load(tmp_path / "patched-6L").config.num_hidden_layers == 6


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({}, "no size was asked for: give one of --layers, --depth, --blocks, or bounds: --params"),
        ({"layers": 1, "depth": 7}, "--layers and --depth exclude one another"),
        ({"layers": 4}, "--layers 4 is out of range: this pair has 3 patchable blocks, give 0 to 3"),
        ({"depth": 9}, "--depth 9 is no size of this pair: it has 5, 6, 7, 8 layers"),
        ({"params": "1K"}, r"no size keeps --params 1K: the nearest, \w+ k=0, has [\d.]+K parameters, "),
        ({"params": "many"}, "--params 'many' is not a number of parameters"),
        ({"size": "1KB"}, r"no size keeps --size 1KB: the nearest, \w+ k=0, has "),
        ({"blocks": 2}, r"blocks \[2\] cannot be patched: the patchable blocks are \[0, 1, 3\]"),
        ({"layers": 1, "order": "gone.json"}, "--order gone.json is neither"),
    ],
)
def test_a_size_that_is_not_there_is_refused_and_leaves_nothing(
    selection: dict[str, Any], message: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    options = [word for key, value in selection.items() for word in (f"--{key}", value)]
    assert_refused("patch", *options, "--student", pair[1], "-o", tmp_path / "model", message=message)
    assert names(tmp_path) == ["student", "teacher"]


# How student and teacher are found


def test_student_is_the_current_folder_if_it_is_one(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pair[1])
    assert patch(layers=1, dry_run=True).depth == 6


def test_environment_names_student_and_teacher(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_json(pair[1] / "student_config.json", teacher=None)
    monkeypatch.setenv("BOOMERANG_STUDENT", str(pair[1]))
    monkeypatch.setenv("BOOMERANG_TEACHER", str(pair[0]))
    assert patch(layers=1, dry_run=True).depth == 6


def test_nothing_found_says_what_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student-init").mkdir()
    (tmp_path / "student-init" / "student_config.json").touch()
    with pytest.raises(ModelNotFoundError, match=r"no student: .*BOOMERANG_STUDENT.*--student student-init takes it"):
        patch(layers=1)


def test_no_teacher_says_which_flag_to_give(pair: tuple[Path, Path], tmp_path: Path) -> None:
    edit_json(pair[1] / "student_config.json", teacher=None)
    with pytest.raises(ModelNotFoundError, match=r"no teacher: .*BOOMERANG_TEACHER.*give --teacher"):
        patch_to(tmp_path, layers=1)


def test_student_without_a_record_needs_keep(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (pair[1] / "student_config.json").unlink()
    with pytest.raises(PairError, match=r"has no student_config\.json: say with --keep"):
        patch_to(tmp_path, layers=1, teacher=pair[0])
    assert patch_to(tmp_path, layers=1, teacher=pair[0], keep=KEPT).depth == 6


# Pairs that do not belong together


def shrink(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def drop(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def add(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, name: torch.ones(2)}, folder / "model.safetensors", metadata={"format": "pt"})


WEIGHT = "gpt_neox.layers.3.mlp.dense_h_to_4h.weight"
WRONG: dict[str, tuple[Any, str]] = {
    "another hidden size": (lambda t, s: edit_json(s / "config.json", hidden_size=64), "hidden_size 64 and 32"),
    "another vocabulary": (lambda t, s: edit_json(s / "config.json", vocab_size=99), "vocab_size 99"),
    "another family": (lambda t, s: edit_json(s / "config.json", model_type="llama"), "model_type llama and gpt_neox"),
    "another depth": (lambda t, s: edit_json(s / "config.json", num_hidden_layers=4), "has 4 layers|counts 4 layers"),
    "a record of another teacher": (
        lambda t, s: edit_json(s / "student_config.json", pruned_teacher_layers=[1, 3, 6, 8]), "speak of 9"),
    "a record with holes": (lambda t, s: edit_json(s / "student_config.json", pruned_teacher_layers=[1, 3]), "make up"),
    "a record without lists": (lambda t, s: edit_json(s / "student_config.json", copied_teacher_layers="0"), "a list"),
    "a record that is no object": (lambda t, s: (s / "student_config.json").write_text("[]"), "must hold a JSON obj"),
    "a record of no layer 0": (
        lambda t, s: edit_json(s / "student_config.json", copied_teacher_layers=[1, 2, 4, 5, 7],
                               pruned_teacher_layers=[0, 3, 6]), "must start with layer 0"),
    "a weight of another shape": (lambda t, s: shrink(s, WEIGHT), r"mlp.dense_h_to_4h.weight has the shape"),
    "a missing weight": (lambda t, s: drop(s, WEIGHT), "mlp.dense_h_to_4h.weight is missing"),
    "a missing weight of the teacher": (lambda t, s: drop(t, WEIGHT), "layer 3 is not like layer 0"),
    "a missing head": (lambda t, s: drop(t, "embed_out.weight"), "lacks the tensor embed_out.weight"),
    "an extra weight": (lambda t, s: add(s, "gpt_neox.layers.3.mlp.extra"), "extra is left over"),
    "a weight of no family": (lambda t, s: add(s, "visual.patches"), "visual.patches, which gpt_neox models do not"),
    "a teacher that is gone": (lambda t, s: shutil.rmtree(t), "no model at|neither"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_pair_is_refused_and_leaves_nothing(case: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    spoil, message = WRONG[case]
    spoil(*pair)
    before = names(tmp_path)
    assert_refused("patch", "--layers", 1, "--student", pair[1], "-o", tmp_path / "model", message=message)
    assert names(tmp_path) == before
