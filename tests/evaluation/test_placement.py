"""How many GPUs a pair needs, which of its layers stand where, and how many processes share so many GPUs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from running import assert_refused, run
from sweeping import line
from tiny_models import LAYERS

from boomerang_cli.engine.errors import ProcessError, ScoringError
from boomerang_cli.engine.evaluation.devices import own_devices
from boomerang_cli.engine.evaluation.pair_bytes import ROOM, PairBytes
from boomerang_cli.engine.evaluation.placement import find_places, processes_on
from boomerang_cli.engine.evaluation.placement_plan import PlacementPlan, plan_placement
from boomerang_cli.engine.models.places import Places
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.processes import launch
from boomerang_cli.engine.processes.machine import Machine


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine that says that it has GPUs, each with so many bytes."""

    def have(count: int, memory: float) -> None:
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr("torch.cuda.device_count", lambda: count)
        monkeypatch.setattr(
            "torch.cuda.get_device_properties", lambda device: SimpleNamespace(total_memory=int(memory / ROOM) + 1)
        )

    return have


@pytest.fixture
def size(folder: Path) -> PairBytes:
    return PairBytes.of(open_pair(folder / "student"), "bfloat16")


def test_a_pair_takes_the_bytes_of_all_its_tensors(size: PairBytes, folder: Path) -> None:
    files = (folder / name / "model.safetensors" for name in ("teacher", "student"))
    headers = 40_000
    assert 0 < sum(file.stat().st_size for file in files) - 2 * size.total < headers  # the files are float32


def test_layers_stand_in_order_and_each_device_holds_about_as_much() -> None:
    size = PairBytes(40, (10,) * 20)
    assert size.places(1) == (0,) * 20
    assert size.places(4) == (*[0] * 2, *[1] * 6, *[2] * 6, *[3] * 6)
    assert size.largest(4) == 60
    assert [size.devices_needed(memory, at_most=4) for memory in (300, 150, 75, 74)] == [1, 2, 4, None]


@pytest.mark.parametrize(("share", "expected"), [(1.01, 8), (0.7, 4), (0.45, 2)])
def test_as_many_processes_share_gpus_as_have_room_for_the_pair(
    share: float, expected: int, gpus: Any, size: PairBytes, folder: Path
) -> None:
    gpus(8, share * size.total)
    assert processes_on(8, folder / "student") == expected


def test_a_process_spreads_layers_over_no_more_of_its_gpus_than_it_needs(
    gpus: Any, size: PairBytes, folder: Path
) -> None:
    devices = [torch.device("cuda", index) for index in range(8)]
    pair = open_pair(folder / "student")
    gpus(8, 1.01 * size.total)
    assert find_places(pair, torch.bfloat16, devices) is None
    gpus(8, 0.7 * size.total)
    assert find_places(pair, torch.bfloat16, devices) == Places(
        devices[0], tuple(devices[place] for place in size.places(2))
    )


def test_a_pair_that_all_gpus_together_cannot_hold_is_refused(gpus: Any, size: PairBytes, folder: Path) -> None:
    gpus(2, 0.3 * size.total)
    said = line(ScoringError, processes_on, gpus=2, student=folder / "student")
    assert "in bfloat16, and 2 of the GPUs here, of " in said
    assert said.endswith("hold less: give more --gpus, or --device cpu")


def test_processes_of_one_machine_share_its_gpus(gpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(8, 1.0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for name in ("is_distributed", "local_processes"):
        monkeypatch.setattr(f"boomerang_cli.engine.evaluation.devices.{name}", lambda: 3)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert [str(device) for device in own_devices("auto")] == ["cuda:4", "cuda:5"]


def test_gpus_with_another_device_are_refused(gpus: Any) -> None:
    gpus(2, 1.0)
    assert line(ProcessError, own_devices, name="cpu", gpus=2) == "--gpus 2 with --device cpu: leave one of them out"


def test_gpus_starts_the_same_command_in_as_many_processes_as_hold_the_pair(
    gpus: Any, size: PairBytes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(9, 0.7 * size.total)
    started: list[tuple[list[str], int]] = []
    monkeypatch.setattr(launch, "run_processes", lambda command, processes: started.append((command, processes)) or 7)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "8,7,6,5,4,3,2,1,0")
    words = ("sweep", "--gpus", "4", "--student", str(folder / "student"), "--data", "text.txt")
    monkeypatch.setattr(sys, "argv", ["boomerang", *words])
    run(*words, code=7)
    assert started == [(["-m", "boomerang_cli", "sweep", *words[3:]], 2)]
    assert launch.os.environ["CUDA_VISIBLE_DEVICES"] == "8,7,6,5"  # type: ignore[attr-defined]


def test_more_gpus_than_there_are_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    words = ("--student", str(folder / "student"), "--data", str(folder / "text.txt"))
    assert_refused("sweep", *words, "--gpus", "99", "--quiet", message=r"--gpus 99, but this machine has \d")


# What a plan tells beforehand


def plan(folder: Path, machine: Machine, **asked: Any) -> PlacementPlan:
    return plan_placement(
        open_pair(folder / "student"), machine, **{"dtype": "auto", "orders": (), "asks": (), **asked}
    )


@pytest.mark.parametrize(("count", "share"), [(8, 1.01), (8, 0.7), (3, 0.7), (8, 0.45), (1, 1.01)])
def test_a_plan_places_a_pair_as_the_sweep_does(
    count: int, share: float, gpus: Any, size: PairBytes, folder: Path
) -> None:
    gpus(count, share * size.total)
    planned = plan(folder, Machine.of(count, None, "cuda"))
    assert planned.processes == processes_on(count, folder / "student")
    devices = [torch.device("cuda", index) for index in range(planned.gpus_a_process)]
    places = find_places(open_pair(folder / "student"), torch.bfloat16, devices)
    assert tuple(devices[place] for place in planned.layers) == (places.layers if places else (devices[0],) * LAYERS)
    assert planned.fullest_bytes <= planned.room_bytes


@pytest.mark.parametrize(
    ("share", "way", "first"), [(1.01, "data-parallel", 1), (0.7, "spread", 2), (0.3, None, 4), (0.01, None, None)]
)
def test_a_plan_says_which_way_or_on_how_many_gpus_there_is_one(
    share: float, way: str | None, first: int | None, size: PairBytes, folder: Path
) -> None:
    planned = plan(folder, Machine(3, int(share * size.total / ROOM) + 1, is_gpu=True))
    assert (planned.way, planned.first_fitting_gpus, planned.fits) == (way, first, way is not None)
    assert planned.pair_bytes == size.total


def test_on_the_cpu_a_pair_stands_once_in_float32(size: PairBytes, folder: Path) -> None:
    planned = plan(folder, Machine(1, 10**9, is_gpu=False), orders=["exact"])
    assert (planned.way, planned.dtype, planned.pair_bytes) == ("whole", "float32", 2 * size.total)
    assert planned.shared == {}


def test_processes_of_torchrun_share_the_memory_of_a_machine(
    size: PairBytes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "3")
    memory = int(2 * size.total / ROOM)  # of one pair in float32
    assert plan(folder, Machine(1, 2 * memory, is_gpu=False)).way is None
    planned = plan(folder, Machine(1, 4 * memory, is_gpu=False), orders=["exact", "last"], asks=["tasks", "speed"])
    assert (planned.way, planned.processes) == ("data-parallel", 3)
    assert planned.shared == {"text": "windows", "exact": "sets", "tasks": "models", "speed": "process"}
