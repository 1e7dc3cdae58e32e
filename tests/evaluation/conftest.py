"""What tests of sweeps share: a pair with a text, sweeps of it, and what they score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import VOCABULARY, save_pair

from boomerang_cli.engine.evaluation.scoring import Scorer
from boomerang_cli.engine.sweep import sweep


@pytest.fixture(autouse=True)
def _plain_pictures(request: pytest.FixtureRequest) -> None:
    if request.module.__name__ not in ("test_curve", "test_sweep"):  # which look at them
        request.getfixturevalue("plain_pictures")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair, and a text of 200 tokens: one window scores 16."""
    folder = tmp_path_factory.mktemp("project")
    save_pair(folder, "llama", max_position_embeddings=16)
    numbers = torch.randint(3, VOCABULARY, (200,), generator=torch.Generator().manual_seed(5)).tolist()
    (folder / "text.txt").write_text(" ".join(f"w{number}" for number in numbers))
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Any:
    def given(**settings: Any) -> dict[str, Any]:
        pair = {"student": folder / "student", "data": [str(folder / "text.txt")], "output": tmp_path / "sweep"}
        return {**pair, **settings}

    def run_sweep(**settings: Any) -> Any:
        return sweep(**given(**settings))

    run_sweep.given = given  # type: ignore[attr-defined]
    return run_sweep


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is scored anew: the key of each model, once a batch."""
    keys: list[str] = []
    score = Scorer.score

    def spy(self: Scorer, variants: Any, *rest: Any, **more: Any) -> Any:
        keys.extend(variant.key for variant in variants)
        return score(self, variants, *rest, **more)

    monkeypatch.setattr(Scorer, "score", spy)
    return keys
