"""The study of objectives, ``benchmarks/curve.py``: what a name of a recipe stands for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from boomerang_cli.engine.distillation.recipes import RECIPES, recipe_of

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import curve
from curve_run import values_of


def test_the_recipe_between_is_one_of_those_that_are_compared() -> None:
    assert RECIPES["between"] in [values_of(name) for name in curve.RECIPES]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "cosine-0.25-rising-order",
            {"patched_share": 0.25, "patched_schedule": "rising", "patched_sampling": "order"},
        ),
        ("cosine-weight-50-rate-0.001", {"cosine_weight": 50.0, "learning_rate": 1e-3}),
    ],
)
def test_a_name_says_what_a_recipe_changes(name: str, values: dict[str, Any]) -> None:
    assert recipe_of("paper", **values_of(name)) == recipe_of("paper", **values)


@pytest.mark.parametrize("name", ["between", "relative-soon", "relative-weight"])
def test_a_name_that_says_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"convert|between"):
        values_of(name)


def test_the_area_is_the_mean_of_the_curve_over_parameters() -> None:
    curve_of_three = [{"parameters": size, "kl": kl} for size, kl in ((10, 4.0), (20, 2.0), (50, 0.0))]
    assert curve.area_of(curve_of_three) == pytest.approx((10 * 3 + 30 * 1) / 40)
