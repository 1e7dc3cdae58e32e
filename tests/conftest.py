"""What all tests share: quiet libraries, and a machine that is not asked for more threads than the models need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from hub_double import HubDouble


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)  # tiny models: threads only wait for one another
    for name in ("BOOMERANG_STUDENT", "BOOMERANG_TEACHER", "BOOMERANG_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubDouble]:
    """A Hub on loopback that the engine speaks to in this process, with a token and an empty cache of its own."""
    from hub_double import HubDouble
    from huggingface_hub import constants

    with HubDouble() as double:
        changes = {
            "ENDPOINT": double.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": double.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }
        for name, value in changes.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", double.token)
        yield double
