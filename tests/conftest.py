"""What all tests share: quiet libraries, and a machine that is not asked for more threads than the models need."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)  # tiny models: threads only wait for one another
    for name in ("BOOMERANG_STUDENT", "BOOMERANG_TEACHER", "BOOMERANG_DEBUG"):
        monkeypatch.delenv(name, raising=False)
