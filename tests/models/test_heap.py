"""Freed memory goes back to the system while models are loaded, and is kept for the next use while they compute."""

from __future__ import annotations

import ctypes
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from boomerang_cli.engine.models.heap import without_holes


def returned_bytes() -> int:
    """Free every second of 32 tensors of 2 MiB, and return how much less memory this process has then."""
    kept, freed = zip(*[(torch.ones(2**19), torch.ones(2**19)) for _ in range(16)], strict=True)
    before = resident_bytes()
    del freed
    after = resident_bytes()
    assert len(kept) == 16
    return before - after


def returned_in_turn() -> tuple[int, int]:
    with without_holes():
        while_loading = returned_bytes()
    return while_loading, returned_bytes()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's way to keep what is freed")
def test_what_is_freed_goes_back_at_once_only_while_models_are_loaded() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:  # whose heap no other test has filled
        while_loading, otherwise = process.submit(returned_in_turn).result()
    assert while_loading == pytest.approx(32 * 2**20, abs=8 * 2**20)
    assert otherwise == pytest.approx(0, abs=8 * 2**20)
