"""What a sweep recommends, and what it warns of, from windows' sums that are known."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import stdev
from typing import Any

import pytest
from sweeping import N

from boomerang_cli.engine.evaluation.paired import PairedScores, WindowSums, mean_of_windows
from boomerang_cli.engine.evaluation.recommendation import recommend
from boomerang_cli.engine.evaluation.rows import SweepRow
from boomerang_cli.engine.evaluation.soundness import find_warnings

NOISE = (-1.0, 1.0, -0.5, 0.5)
"""What windows differ in, whatever the model: some are hard for all."""


def sweep_of(
    kls: Sequence[float], *, order: str = "last", noise: Sequence[float] = NOISE, own: float = 0.0, **values: Any
) -> tuple[list[SweepRow], PairedScores]:
    """Rows of one order, k = 0 and up, of these KLs a token over four windows of 10 tokens.

    Args:
        own: how much windows differ in one model alone.
    """
    rows, sums = [], {}
    for k, kl in enumerate(kls):
        blocks = tuple(range(k)) if order == "first" else tuple(range(N - k, N))
        turned = noise if k % 2 else noise[::-1]
        windows = [10 * (kl + each / 10 + own * other / 10) for each, other in zip(noise, turned, strict=True)]
        sums[blocks] = [WindowSums(20 + each, each, 5, 5) for each in windows]
        given = {"perplexity": 9.0, **values}
        rows.append(SweepRow(k, 5 + k, 100 + 10 * k, 1000, order, blocks, kl=kl, **given))
    return rows, PairedScores((10,) * 4, sums)


def test_the_error_of_a_mean_is_the_textbooks_where_windows_are_alike() -> None:
    values = [3.0, 5.0, 4.0, 8.0]
    mean, error = mean_of_windows([10 * value for value in values], [10] * 4)
    assert mean == 5
    assert error == pytest.approx(stdev(values) / sqrt(4))


def test_what_windows_have_in_common_is_no_error_of_a_difference() -> None:
    rows, paired = sweep_of([0.4, 0.3])
    difference = paired.difference("kl", rows[0].patched_blocks, rows[1].patched_blocks)
    assert difference.value == pytest.approx(0.1)
    assert difference.stderr == pytest.approx(0, abs=1e-12)
    assert mean_of_windows([each.kl for each in paired.sums[rows[0].patched_blocks]], paired.tokens).stderr > 0.04


def test_a_size_that_a_smaller_one_beats_is_not_on_the_front() -> None:
    found = recommend(*sweep_of([0.4, 0.5, 0.1, 0.0]))
    assert [size.layers for size in found.pareto] == [0, 2, 3]
    assert found.is_on_front((1, 2))
    assert not found.is_on_front((2,))


def test_the_knee_is_within_one_error_of_the_next_larger_size() -> None:
    found = recommend(*sweep_of([0.40, 0.20, 0.19, 0.0], own=0.5))
    assert found.knee is not None
    assert (found.rule, found.knee.layers) == ("one standard error", 1)
    assert found.knee.gain_stderr is not None
    assert found.knee.gain == pytest.approx(0.01)
    assert found.knee.gain <= found.knee.gain_stderr


@pytest.mark.parametrize(("own", "rule"), [(0.12, "one standard error"), (0.08, "elbow")])
def test_one_error_is_the_limit(own: float, rule: str) -> None:
    found = recommend(*sweep_of([0.40, 0.20, 0.19, 0.0], own=own))
    assert found.pareto[1].gain_stderr == pytest.approx(0.3 / sqrt(12) * own)  # 0.0104 and 0.0069, for a gain of 0.01
    assert found.rule == rule


def test_where_every_step_gains_the_elbow_is_recommended() -> None:
    found = recommend(*sweep_of([0.40, 0.10, 0.05, 0.0]))
    assert found.knee is not None
    assert (found.rule, found.knee.layers) == ("elbow", 1)


def test_a_front_that_does_not_bend_recommends_nothing() -> None:
    found = recommend(*sweep_of([0.3, 0.2, 0.1, 0.0]))
    assert (found.knee, found.rule) == (None, None)
    assert recommend(*sweep_of([0.3])).rule == "only size"


def test_of_two_orders_the_front_takes_the_closer_size_and_each_model_once() -> None:
    last, of_last = sweep_of([0.4, 0.3, 0.2, 0.0])
    first, of_first = sweep_of([0.4, 0.1, 0.3, 0.0], order="first")
    found = recommend([*last, *first], PairedScores((10,) * 4, {**of_last.sums, **of_first.sums}))
    assert [(size.order, size.layers) for size in found.pareto] == [("first", 0), ("first", 1), ("first", 3)]
    assert found.is_knee((0,))


def warnings_of(kls: Sequence[float], vocabulary: int = 64, **values: Any) -> str:
    rows, paired = sweep_of(kls, **values)
    return " | ".join(find_warnings(rows, paired, blocks=N, vocabulary=vocabulary))


def test_sound_scores_have_no_warning() -> None:
    assert warnings_of([0.4, 0.1, 0.05, 0.0]) == ""


def test_a_student_that_beats_its_teacher_is_told() -> None:
    assert warnings_of([0.0, 0.1, 0.2, 0.4]).startswith("the student is better than the teacher on this text")


def test_ends_that_noise_hides_are_told() -> None:
    assert warnings_of([0.02, 0.015, 0.01, 0.0], own=0.9).startswith("student and teacher are equally good")


def test_a_student_that_guesses_or_got_worse_is_told() -> None:
    assert "as if it guessed among all 8 tokens" in warnings_of([0.4, 0.1, 0.05, 0.0], vocabulary=8)
    worse = warnings_of([0.4, 0.1, 0.05, 0.0], baseline={"perplexity": 9.0, "kl": 0.3})
    assert worse == (
        "the student is farther from the teacher (KL 0.4) than before it was distilled (0.3): its distillation "
        "diverged, or was on another kind of text"
    )


def test_differences_below_the_noise_are_told() -> None:
    assert "3 of 3 differences between neighbouring sizes" in warnings_of([0.21, 0.2, 0.19, 0.18], own=0.9)
