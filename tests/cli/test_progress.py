"""Progress where nobody sees a bar: a line for what takes long, and none for what does not."""

from __future__ import annotations

import time

import pytest

from boomerang_cli.cli import progress


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_STAGES", 0.05)


def test_a_stage_that_takes_long_is_told_before_it_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.stage_progress() as tell:
        tell("Loading libraries", 0, 1)
        assert capsys.readouterr().err == ""
        time.sleep(0.2)
        assert capsys.readouterr().err == "Loading libraries\n"


def test_stages_that_are_over_soon_need_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.stage_progress() as tell:
        tell("Loading libraries", 0, 1)
        tell("Reading text", 0, 1)
    time.sleep(0.2)
    assert capsys.readouterr().err == ""
