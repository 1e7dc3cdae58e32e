"""Files laid out for shared disk blocks: the same tensors, each long run at its source's place within a block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from files import tensor_bytes
from tiny_models import load, save_pair

from boomerang_cli.engine.checkpoint.tensors import BLOCK_BYTES, read_header
from boomerang_cli.engine.output import block_sharing
from boomerang_cli.engine.output.block_sharing import arrange_for_sharing
from boomerang_cli.engine.patch import patch


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pair on a disk that is said to share blocks, with runs that are long enough to be worth it."""
    save_pair(tmp_path, "gpt_neox")
    monkeypatch.setattr(block_sharing, "_can_share", lambda plan, target: True)
    monkeypatch.setattr(block_sharing, "_WORTH_A_FILE_BYTES", 1)
    return tmp_path


def patch_to(folder: Path, name: str = "model", **options: Any) -> Any:
    return patch(layers=1, student=folder / "student", output=folder / name, **options)


def test_each_run_stands_where_it_stood_within_a_block(shared: Path) -> None:
    result = patch_to(shared)
    written = {name: tensor for path in result.path.glob("*.safetensors") for name, tensor in read_header(path).items()}
    first_of_runs = [run[0] for shard in result.plan.shards for run in shard.runs]
    assert len(first_of_runs) > 3
    assert {(written[copy.name].start - copy.source.start) % BLOCK_BYTES for copy in first_of_runs} == {0}


def test_tensors_are_those_of_an_ordinary_disk(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spread = patch_to(shared)
    monkeypatch.undo()
    plain = patch_to(shared, "plain")
    assert len(spread.plan.shards) > len(plain.plan.shards)
    assert tensor_bytes(spread.path) == tensor_bytes(plain.path)
    load(spread.path)


def test_short_runs_get_no_file_of_their_own(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_sharing, "_WORTH_A_FILE_BYTES", 10**9)
    assert len(patch_to(shared).plan.shards) == 1


def test_nothing_is_shared_where_the_dtype_changes(shared: Path) -> None:
    assert len(patch_to(shared, dtype="bfloat16").plan.shards) == 1


def test_a_disk_is_asked_without_leaving_a_file(tmp_path: Path) -> None:
    _, student = save_pair(tmp_path, "gpt_neox")
    plan = patch(layers=1, student=student, dry_run=True).plan
    before = sorted(tmp_path.iterdir())
    assert arrange_for_sharing(plan, tmp_path / "model").copies == plan.copies
    assert sorted(tmp_path.iterdir()) == before
