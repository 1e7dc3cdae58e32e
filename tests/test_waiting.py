"""What takes two seconds says what it is; tests shorten the two seconds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hub_double import HubDouble
from tiny_models import save_pair

from boomerang_cli.engine import waiting
from boomerang_cli.engine.checkpoint import content_digest
from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.distillation.data import HubText


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(waiting, "on_wait", lines.append)
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "FURTHER_SECONDS", 0.05)
    return lines


def test_a_long_wait_is_told_and_told_again_with_its_seconds(told: list[str]) -> None:
    with waiting.waiting("reading"):
        time.sleep(0.3)
    assert told[:2] == ["reading …", "reading … (0 s)"]


def test_what_is_told_is_asked_for_each_time_and_as_often_as_is_wanted(told: list[str]) -> None:
    news = iter(["loading", "half of it", *["nearly"] * 99])
    with waiting.waiting(lambda: next(news), first_seconds=0.0, further_seconds=0.1):
        time.sleep(0.25)
    assert told[:2] == ["loading …", "half of it … (0 s)"]
    assert len(told) <= 3


def test_a_short_wait_needs_no_word_and_none_comes_behind_it(told: list[str]) -> None:
    with waiting.waiting("reading"):
        pass
    time.sleep(0.15)
    assert told == []


def test_a_slow_hub_is_named_with_the_repository(hub: HubDouble, tmp_path: Path, told: list[str]) -> None:
    hub.add_model("lab/teacher", save_pair(tmp_path, "gpt_neox")[0])
    hub.slow("GET", "/api/models/", seconds=0.3, times=1)
    open_checkpoint("lab/teacher", download=False)
    assert told[0] == "waiting for the Hub, to read lab/teacher …"


def test_weights_that_are_hashed_are_named_and_hashed_once(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_slowly(path: Path) -> str:
        time.sleep(0.2)
        return path.name

    monkeypatch.setattr(content_digest, "sha256_of", read_slowly)
    model = open_checkpoint(save_pair(tmp_path, "gpt_neox")[0])
    assert content_digest.weights_digest(model) == content_digest.joined(["model.safetensors"])
    assert told[0] == f"reading all weights of {model.name}, for their SHA-256 …"
    told.clear()
    content_digest.weights_digest(model)
    assert told == []


def test_a_data_set_that_is_slow_to_begin_is_named(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(*words: object, **options: object) -> list[dict[str, str]]:
        time.sleep(0.2)
        return [{"text": "a"}, {"text": "b"}, {"text": "c"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [*HubText("lab/text", "lab/text", skip=1).documents()] == ["b", "c"]
    assert told[0] == "waiting for the first row of lab/text on the Hub, behind 1 documents that are held out …"
