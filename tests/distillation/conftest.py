"""What tests of text share."""

from __future__ import annotations

from pathlib import Path

import pytest
from stories import DOCUMENTS, write_jsonl


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # a forked loading process would warn


@pytest.fixture
def stories(tmp_path: Path) -> str:
    return str(write_jsonl(tmp_path / "stories.jsonl", DOCUMENTS))
