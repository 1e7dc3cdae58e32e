"""Damaged files and command lines: one line, or a right result. ``benchmarks/fuzz.py`` plays many more cases."""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random

import pytest
from fuzzing import TARGETS, outcome, workspace
from huggingface_hub import constants
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from boomerang_cli.engine.checkpoint.files import SourceFile
from boomerang_cli.engine.checkpoint.tensors import parse_header
from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.sizes import parse_bytes, parse_count

# Under five seconds a case is part of what is promised, with room for a busy machine; the same cases on each run, so
# that a failure stays one.
FEW = settings(
    max_examples=60, deadline=30_000, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspace(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A damaged file may name any repository."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("target", TARGETS)
@FEW
@given(seed=st.integers(0, 2**32))
def test_damage_ends_in_one_line_or_a_right_result(target: str, root: Path, seed: int) -> None:
    assert TARGETS[target](Random(seed), root) in ("refused", "accepted")


@FEW
@given(text=st.binary())
@example(b'{"a":{"dtype":"U8","shape":[1e999],"data_offsets":[0,1]}}')
@example(b'{"a":{"dtype":"U8","shape":[' + b"9223372036854775807," * 50_000 + b'0],"data_offsets":[0,0]}}')
@example(b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
def test_no_bytes_are_too_strange_for_a_header(text: bytes) -> None:
    assert outcome(lambda: parse_header(text, SourceFile(Path("x"), 8 + len(text), 0))) in ("refused", "accepted")


@FEW
@given(text=st.text() | st.text("0123456789.e+- kMGTiB"))
@example("9" * 5000)
@example("1" * 5000 + "x")
def test_a_size_is_a_whole_number_or_refused(text: str) -> None:
    with contextlib.suppress(SelectionError):
        assert min(parse_count(text, "--params"), 1) == 1
    with contextlib.suppress(SelectionError):
        assert min(parse_bytes(text, "--size"), 1) == 1
