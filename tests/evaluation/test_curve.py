"""The picture of a sweep."""

from __future__ import annotations

import io
from typing import Any

import pytest
from matplotlib.image import imread

from boomerang_cli.engine.evaluation.curve import draw_curve
from boomerang_cli.engine.evaluation.rows import SweepRow


def rows(**values: Any) -> list[SweepRow]:
    return [
        SweepRow(k, 5 + k, 1_000_000 * (5 + k), 1, order, (), **values) for order in ("first", "last") for k in range(4)
    ]


def test_perplexities_are_drawn() -> None:
    picture = draw_curve(rows(perplexity=9.5, perplexity_stderr=0.1, baseline={"perplexity": 900.0, "kl": 1.0}), 3)
    assert picture is not None
    assert imread(io.BytesIO(picture)).shape[1] > 1000


def test_a_task_is_drawn_where_there_is_no_text() -> None:
    assert draw_curve(rows(tasks={"piqa": {"acc": 0.5}}), 3) is not None


def test_nothing_is_drawn_where_nothing_was_measured() -> None:
    assert draw_curve(rows(), 3) is None


def test_the_same_sweep_gives_the_same_bytes() -> None:
    assert draw_curve(rows(perplexity=9.5), 3) == draw_curve(rows(perplexity=9.5), 3)


@pytest.mark.parametrize("perplexity", [1.5, 80.0, 1e12])
def test_any_perplexity_can_be_drawn(perplexity: float) -> None:
    assert draw_curve(rows(perplexity=perplexity), 3) is not None
