"""What all tests share: quiet libraries, and a machine that is not asked for more threads than the models need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from hub_double import HubDouble

    from boomerang_cli.engine.evaluation.rows import SweepResult


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)  # tiny models: threads only wait for one another
    for name in ("BOOMERANG_STUDENT", "BOOMERANG_TEACHER", "BOOMERANG_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def plain_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture for all sweeps: drawing theirs takes half of a tiny one's time."""
    from boomerang_cli.engine.evaluation.curve import Picture
    from boomerang_cli.engine.evaluation.panels import panels_of

    def drawn(swept: SweepResult, teacher_layers: int) -> Picture | None:
        return Picture(b"png", b"svg", ()) if panels_of(swept.rows) else None

    monkeypatch.setattr("boomerang_cli.engine.evaluation.results.draw_curve", drawn)


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
