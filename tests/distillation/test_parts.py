"""A checkpoint's tensors in parts: all of them are there, or the training does not go on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from boomerang_cli.engine.distillation.parts import Parts, check_seen_by_all, part_name, write_part
from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.models.tensor_files import write_tensors

WHOLE = torch.arange(20, dtype=torch.float32).view(5, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two processes' parts of a matrix of five rows, and a number that the first one wrote."""
    for number, tensors in enumerate([{"weight": WHOLE[:3], "step": torch.tensor(7.0)}, {"weight": WHOLE[3:]}]):
        described = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
        write_tensors(tmp_path / part_name(number, 2), described, tensors.items())
    return tmp_path


def test_parts_are_put_together_by_rows(folder: Path) -> None:
    weight, step = torch.zeros(5, 4), torch.tensor(0.0)
    parts = Parts(folder, 2)
    parts.restore("weight", weight)
    parts.restore("step", step)
    assert torch.equal(weight, WHOLE)
    assert step == 7


def test_a_missing_part_is_named(folder: Path) -> None:
    (folder / "training-00002-of-00002.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"training-00002-of-00002\.safetensors is missing; start anew"):
        Parts(folder, 2)


def test_a_part_that_is_cut_off_is_named(folder: Path) -> None:
    path = folder / "training-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TrainingError, match=r"training-00001-of-00002\.safetensors is truncated.*; start anew"):
        Parts(folder, 2)


@pytest.mark.parametrize("target", [torch.zeros(6, 4), torch.zeros(5, 4, dtype=torch.bfloat16)])
def test_a_tensor_of_another_model_is_refused(folder: Path, target: torch.Tensor) -> None:
    with pytest.raises(TrainingError, match=r"holds no weight of .*, but .*: it is of another model"):
        Parts(folder, 2).restore("weight", target)
    with pytest.raises(TrainingError, match=r"holds no bias of \[5\], but nothing"):
        Parts(folder, 2).restore("bias", torch.zeros(5))


def test_a_tensor_of_a_kind_of_its_own_is_not_written_as_another(tmp_path: Path) -> None:
    packed = torch.zeros(2).as_subclass(type("Packed", (torch.Tensor,), {}))
    with pytest.raises(TrainingError, match="optimizer/weight/exp_avg is a Packed, which no checkpoint can hold"):
        write_part(tmp_path, {"optimizer/weight/exp_avg": packed})
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_is_not_there_for_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="give an --output on a disk that machines share"):
        check_seen_by_all(tmp_path / "elsewhere")
