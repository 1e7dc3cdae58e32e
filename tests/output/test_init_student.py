"""``init_student``: the teacher's own bytes under new names, and a record of which layers they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from files import names, tensor_bytes
from running import assert_refused
from tiny_models import FAMILIES, LAYERS, load, make_config, make_model, make_tokenizer, text

from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.student_config import read_student_config


def save_teacher(folder: Path, family: str = "gpt_neox", **changes: object) -> Path:
    make_model(make_config(family, **changes), 1).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return save_teacher(tmp_path / "teacher")


def test_student_layers_are_the_kept_layers_byte_for_byte(teacher: Path, tmp_path: Path) -> None:
    result = init_student(teacher, output=tmp_path / "student")
    whole, student = tensor_bytes(teacher), tensor_bytes(result.path)
    for index, kept in enumerate(result.copied_teacher_layers):
        name = "gpt_neox.layers.{}.attention.query_key_value.weight"
        assert student[name.format(index)] == whole[name.format(kept)]


def test_what_stands_around_the_layers_is_the_teachers(teacher: Path, tmp_path: Path) -> None:
    result = init_student(teacher, output=tmp_path / "student")
    whole, student = tensor_bytes(teacher), tensor_bytes(result.path)
    around = [name for name in whole if ".layers." not in name]
    assert around
    assert {name: student[name] for name in around} == {name: whole[name] for name in around}


def test_folder_holds_exactly_a_model_and_its_record(teacher: Path, tmp_path: Path) -> None:
    result = init_student(teacher, output=tmp_path / "student")
    others = [name for name in names(teacher) if name not in ("config.json", "model.safetensors")]
    assert {*others, "config.json", "model.safetensors", "student_config.json"} <= {*names(result.path)}
    assert {*names(result.path)} <= {*others, "config.json", "model.safetensors", "student_config.json", "README.md"}
    assert all((result.path / name).read_bytes() == (teacher / name).read_bytes() for name in others)


def test_record_is_the_references_and_names_the_teacher(teacher: Path, tmp_path: Path) -> None:
    result = init_student(teacher, output=tmp_path / "student", keep=[0, 3, 6])
    record = json.loads((result.path / "student_config.json").read_text())
    assert record["copied_teacher_layers"] == [0, 3, 6]
    assert record["pruned_teacher_layers"] == [1, 2, 4, 5, 7]
    assert record["teacher"] == str(teacher)
    assert read_student_config(result.path).layer_map == LayerMap(LAYERS, (0, 3, 6))


@pytest.mark.parametrize("family", FAMILIES)
def test_student_of_every_family_opens_and_runs(family: str, tmp_path: Path) -> None:
    result = init_student(save_teacher(tmp_path / "teacher", family), output=tmp_path / "student")
    with torch.no_grad():
        assert load(result.path)(text()).logits.isfinite().all()


def test_family_decides_the_default_rule(tmp_path: Path) -> None:
    llama = init_student(save_teacher(tmp_path / "llama", "llama"), output=tmp_path / "a")
    neox = init_student(save_teacher(tmp_path / "neox"), output=tmp_path / "b")
    assert llama.copied_teacher_layers == (0, 1, 3, 5, 7)
    assert neox.copied_teacher_layers == (0, 2, 4, 6, 7)


def test_result_counts_layers_blocks_parameters_and_bytes(teacher: Path, tmp_path: Path) -> None:
    result = init_student(teacher, output=tmp_path / "student")
    assert (result.teacher_layers, result.student_layers, result.patchable_blocks) == (8, 5, 3)
    assert result.parameters == sum(parameter.numel() for parameter in load(result.path).parameters())
    assert result.teacher_parameters == sum(parameter.numel() for parameter in load(teacher).parameters())
    assert result.bytes == 4 * result.parameters


def test_bfloat16_is_rounded_as_torch_rounds(teacher: Path, tmp_path: Path) -> None:
    student = init_student(teacher, output=tmp_path / "student", dtype="bfloat16").path
    rounded = {name: tensor.bfloat16().float() for name, tensor in load(init(teacher, tmp_path)).state_dict().items()}
    assert all(torch.equal(tensor, rounded[name]) for name, tensor in load(student).state_dict().items())
    assert json.loads((student / "config.json").read_text())["dtype"] == "bfloat16"


def init(teacher: Path, tmp_path: Path) -> Path:
    return init_student(teacher, output=tmp_path / "plain").path


def test_values_beyond_float16_are_refused_not_lost(tmp_path: Path) -> None:
    model = make_model(make_config("gpt_neox"), 1)
    model.gpt_neox.layers[2].mlp.dense_h_to_4h.weight.data[0, 0] = 1e5
    model.save_pretrained(tmp_path / "teacher")
    with pytest.raises(OutputError, match=r"dense_h_to_4h.weight holds values beyond float16's largest"):
        init_student(tmp_path / "teacher", output=tmp_path / "student", dtype="float16")
    assert names(tmp_path) == ["teacher"]


def test_random_weights_are_the_same_each_time_and_not_the_teachers(teacher: Path, tmp_path: Path) -> None:
    copied = tensor_bytes(init(teacher, tmp_path))
    drawn, again = (
        tensor_bytes(init_student(teacher, output=tmp_path / name, random_init=True).path) for name in ("a", "b")
    )
    weight = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
    assert drawn == again
    assert drawn.keys() == copied.keys()
    assert drawn[weight] != copied[weight]


@pytest.mark.parametrize("family", ["mixtral", "qwen3", "opt"])
def test_random_weights_of_a_family_open(family: str, tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher", family)
    load(init_student(teacher, output=tmp_path / "student", random_init=True).path)


@pytest.mark.parametrize("kind", ["BertForPreTraining", "BertForMaskedLM", "BertModel", "DistilBertForMaskedLM"])
def test_random_weights_of_a_model_of_masked_words_open(kind: str, tmp_path: Path) -> None:
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 4}
    wide = {"hidden_dim": 48} if kind.startswith("Distil") else {"intermediate_size": 48}
    model_class = getattr(transformers, kind)
    model_class(model_class.config_class(**sizes, **wide)).save_pretrained(tmp_path / "teacher")
    copied, drawn = (
        init_student(tmp_path / "teacher", output=tmp_path / name, random_init=name == "drawn").path
        for name in ("copied", "drawn")
    )
    assert tensor_bytes(drawn).keys() == tensor_bytes(copied).keys()
    _, report = model_class.from_pretrained(drawn, output_loading_info=True)
    assert not report["missing_keys"]


def test_shards_are_no_larger_than_asked_and_hold_the_same(teacher: Path, tmp_path: Path) -> None:
    result = init_student(teacher, output=tmp_path / "student", max_shard_size="60KB")
    index = json.loads((result.path / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert len(shards) > 1
    assert index["metadata"]["total_size"] == result.bytes
    assert all(sum(copy.size_bytes for copy in shard.copies) <= 60_000 for shard in result.plan.shards)
    assert tensor_bytes(result.path) == tensor_bytes(init(teacher, tmp_path))


def test_a_dry_run_writes_nothing_and_plans_the_same(teacher: Path, tmp_path: Path) -> None:
    planned = init_student(teacher, output=tmp_path / "student", dry_run=True)
    assert names(tmp_path) == ["teacher"]
    assert planned == init_student(teacher, output=tmp_path / "student")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--keep", "1,2"), "kept layers must start with layer 0, not 1,2"),
        (("--keep", "0,9"), r"kept layer 9 is outside the teacher's 8 layers \(0 to 7\)"),
        (("--every", "1"), "--every 1 drops nothing"),
        (("--every", "20"), "drop none of the 8 layers"),
        (("--max-shard-size", "big"), "--max-shard-size 'big' is not a size such as 4GB"),
        (("--max-shard-size", "0"), "--max-shard-size '0' is not a size"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    options: tuple[str, ...], message: str, teacher: Path, tmp_path: Path
) -> None:
    assert_refused("init-student", teacher, "-o", tmp_path / "student", *options, message=message)
    assert names(tmp_path) == ["teacher"]


REFUSED: dict[str, tuple[str, dict[str, object], str]] = {
    "quantised weights": ("llama", {"quantization_config": {"bits": 4}}, "holds quantised weights"),
    "attention scaled by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    "an unknown family": ("llama", {"model_type": "novelty"}, "unknown model_type 'novelty'"),
    "no family": ("llama", {"model_type": None}, "has no model_type"),
    "shared caches": ("llama", {"model_type": "gemma3n_text"}, "its layers share key-value caches"),
    "layer-dependent attention": ("llama", {"model_type": "diffllama"}, "its attention uses the layer's index"),
    "an unknown list a layer": ("llama", {"new_list": list(range(8))}, "new_list, a list of 8 values that may be"),
    "a known list of another length": ("qwen3", {"layer_types": ["full_attention"] * 3}, "layer_types .* list of 8"),
    "a depth that is no number": ("llama", {"num_hidden_layers": "8"}, "no usable num_hidden_layers: '8'"),
    "more layers than there are": ("llama", {"num_hidden_layers": 9}, r"lacks the tensors model\.layers\.8\.\*"),
    "fewer layers than there are": ("llama", {"num_hidden_layers": 7}, "counts 7 layers"),
    "another vocabulary": ("llama", {"vocab_size": 65}, "config.json the vocab_size 65"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_teacher_whose_layers_cannot_be_moved_is_refused(case: str, tmp_path: Path) -> None:
    family, changes, message = REFUSED[case]
    config = save_teacher(tmp_path / "teacher", family) / "config.json"
    content = {**json.loads(config.read_text()), **changes}
    config.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    assert_refused("init-student", tmp_path / "teacher", "-o", tmp_path / "student", message=message)
    assert names(tmp_path) == ["teacher"]
