"""Models read from their files straight into the parts of two processes: tensor for tensor those of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from files import edit_json, tensor_bytes
from hub_double import HubDouble
from processes import in_two_processes
from tiny_models import make_config, save_pair
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.distillation import models
from boomerang_cli.engine.distillation.models import load_student, load_teacher
from boomerang_cli.engine.distillation.student import plan_student, write_student, write_weights
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.models import tensor_files
from boomerang_cli.engine.models.loading import load_model
from boomerang_cli.engine.models.split_loading import reads_by_rows
from boomerang_cli.engine.models.tensor_files import read_rows, write_tensors
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.processes.group import rank

CPU = torch.device("cpu")
BY_ROWS = ("gpt_neox", "llama", "qwen3", "gemma2", "mixtral")
"""Names that differ from the modules', nothing special, tied matrices, buffers, experts one by one in the files."""


def whole_tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Parameters and all buffers, also those that files do not hold."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    return {name: each.full_tensor() if isinstance(each, DTensor) else each for name, each in named}


def compare_with_whole(student: Path | str, *, by_rows: bool) -> None:
    """Load a pair in this process, one of two, and compare it with the pair loaded whole."""
    pair, turns, read = open_pair(student), [], []
    in_turns, read_into = models.in_turns, tensor_files._read_into
    models.in_turns = lambda load: turns.append(1) or in_turns(load)  # type: ignore[func-returns-value]
    tensor_files._read_into = lambda data, *where: read.append(len(data)) or read_into(data, *where)  # type: ignore[func-returns-value]
    for owner, load in (("student", load_student), ("teacher", load_teacher)):
        read.clear()
        split = load(pair, CPU)
        held = sum(each.to_local().nbytes for each in split.parameters())
        assert turns == [] and sum(read) == held if by_rows else turns
        alone = load_model(pair.checkpoint(owner), pair.config(owner), dtype=torch.float32)  # type: ignore[arg-type]
        expected, found = whole_tensors(alone), whole_tensors(split)
        assert found.keys() == expected.keys()
        assert [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)] == []
    models.in_turns, tensor_files._read_into = in_turns, read_into


def compare_written(folder: Path) -> None:
    """Load a student in this process, one of two, and write it again tensor by tensor."""
    pair = open_pair(folder / "student")
    plan = plan_student(pair)
    assert write_weights(load_student(pair, CPU), plan, folder / "scratch") is None
    if rank() == 0:
        write_student(plan, folder / "written", folder / "scratch", overwrite=False)
        assert tensor_bytes(folder / "written") == tensor_bytes(folder / "student")


def compare_families(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    for family in BY_ROWS:
        compare_with_whole(folder / family / "student", by_rows=True)
        compare_written(folder / family)
    models.reads_by_rows = lambda *_: False
    compare_with_whole(folder / "llama" / "student", by_rows=False)


def test_two_processes_hold_what_one_holds_and_read_no_more(tmp_path: Path) -> None:
    for family in BY_ROWS:
        save_pair(tmp_path / family, family)
    in_two_processes(compare_families, tmp_path)


def compare_on_the_hub(student: str) -> None:
    torch.distributed.init_process_group("gloo")
    compare_with_whole(student, by_rows=True)


def test_a_pair_on_the_hub_is_fetched_once_for_two_processes(hub: HubDouble, tmp_path: Path) -> None:
    folders = save_pair(tmp_path, "llama")
    edit_json(tmp_path / "student" / "student_config.json", teacher="lab/teacher")
    for folder in folders:
        hub.add_model(f"lab/{folder.name}", folder)
    in_two_processes(compare_on_the_hub, "lab/student")
    weights = sum((folder / "model.safetensors").stat().st_size for folder in folders)
    assert weights <= sum(request.bytes_sent for request in hub.requests) < 1.5 * weights


def one_cannot_read(student: Path) -> None:
    torch.distributed.init_process_group("gloo")
    pair = open_pair(student)
    if rank() == 1:
        (student / "model.safetensors").write_bytes(b"")
        with pytest.raises(CheckpointError, match=r"student/model\.safetensors changed while it was read"):
            load_student(pair, CPU)


def test_a_process_that_cannot_read_its_part_names_the_file(tmp_path: Path) -> None:
    in_two_processes(one_cannot_read, save_pair(tmp_path, "llama")[1])


def test_experts_are_read_by_rows_only_where_each_process_holds_some() -> None:
    config = make_config("mixtral").to_dict()
    assert [reads_by_rows(config, "a model", processes) for processes in (2, 3, 4, 5)] == [True, False, True, False]


def test_matrices_that_are_joined_row_by_row_are_loaded_whole() -> None:
    assert not reads_by_rows({"model_type": "olmo_hybrid"}, "a model", 2)


def test_rows_of_a_file_are_those_that_were_written(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "half": torch.arange(12, dtype=torch.bfloat16).view(6, 2),
        "bytes": torch.arange(5, dtype=torch.uint8),
    }
    described = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    write_tensors(tmp_path / "model.safetensors", described, tensors.items())
    (tmp_path / "config.json").write_text("{}")
    written = open_checkpoint(tmp_path).tensors
    assert all(torch.equal(read_rows(written[name]), tensor) for name, tensor in tensors.items())
    assert torch.equal(read_rows(written["half"], 2, 5), tensors["half"][2:5])
