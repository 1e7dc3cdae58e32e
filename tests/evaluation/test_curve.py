"""The picture of a sweep: what it shows, and the two files of it."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from boomerang_cli.engine.evaluation.curve import Picture, draw_curve
from boomerang_cli.engine.evaluation.panels import panels_of
from boomerang_cli.engine.evaluation.pareto import Recommendation, Size
from boomerang_cli.engine.evaluation.rows import SweepResult, SweepRow

KL = (0.6, 0.3, 0.1, 0.0)


def blocks(order: str, k: int) -> tuple[int, ...]:
    return tuple(range(k)) if order == "first" else tuple(range(3 - k, 3))


def rows(*orders: str, **values: Any) -> list[SweepRow]:
    """Sizes of 5 to 8 layers; by default with a KL divergence and a perplexity."""
    scores = values or {"perplexity": 9.5, "perplexity_stderr": 0.1}
    return [
        SweepRow(k, 5 + k, 1_000_000 * (5 + k), 1, order, blocks(order, k), **{"kl": KL[k], **scores})
        for order in orders or ("last",)
        for k in range(4)
    ]


def draw(found: list[SweepRow], **changes: Any) -> Picture:
    result = SweepResult(Path("sweep"), "/home/me/$teacher_one$", "lab/student", ("text/held-out.txt",), tuple(found))
    picture = draw_curve(replace(result, **changes), teacher_layers=3)
    assert picture is not None
    return picture


def words(picture: Picture) -> str:
    """Return what is written in a picture."""
    return " ".join(re.findall(r">([^<>]+)</(?:text|tspan)>", picture.svg.decode()))


def recommended(row: SweepRow) -> Recommendation:
    size = Size(row.order, row.layers, row.depth, row.parameters, row.patched_blocks, row.kl or 0.0, None, None)
    return Recommendation("kl", (size,), size, "only size", "")


def test_two_panels_name_models_text_sizes_and_ends() -> None:
    shown = words(draw(rows("first", "last")))
    for word in ("lab/student", "$teacher_one$", "held-out.txt", "5.00M", "8.00M", "layers", "parameters", "perplexity",
                 "KL divergence to the teacher", "order first", "order last"):  # fmt: skip
        assert word in shown
    assert "/home/me" not in shown


def test_the_recommended_size_is_marked() -> None:
    found = rows()
    assert "recommended: 7 layers, 7.00M parameters (last, k = 2)" in words(
        draw(found, recommended=recommended(found[2]))
    )
    assert "recommended" not in words(draw(found))


def test_both_files_are_pictures_of_a_width_that_can_be_read() -> None:
    picture = draw(rows())
    assert imread(io.BytesIO(picture.png)).shape[1] > 1000
    assert picture.svg.startswith(b"<?xml")


def test_the_same_sweep_gives_the_same_bytes() -> None:
    assert draw(rows()) == draw(rows())


def test_nothing_is_drawn_where_nothing_was_measured() -> None:
    assert draw_curve(SweepResult(Path("sweep"), "t", "s", (), tuple(rows(kl=None))), 3) is None


@pytest.mark.parametrize("perplexity", [1.0, 80.0, 1e12, 0.0])
def test_any_perplexity_can_be_drawn(perplexity: float) -> None:
    draw([*rows(perplexity=perplexity), *rows("first", perplexity=2 * perplexity)])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_left_out_and_told(value: float) -> None:
    found = rows()
    found[1] = replace(found[1], perplexity=value, baseline={"kl": value})
    picture = draw(found)
    assert picture.left_out == ("never-distilled KL of last k=1", "perplexity of last k=1")
    assert "left out, as they are no numbers: never-distilled KL of last k=1" in words(picture)


def test_letters_that_no_font_has_are_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    draw(rows(), student="/模型/학생")
    assert not recwarn.list


# What the panels hold


def test_each_task_has_a_panel_of_its_own() -> None:
    panels = panels_of(rows(tasks={"piqa": {"acc": 0.5, "acc_stderr": 0.1}, "arc": {"acc_norm": 0.3}}))
    assert [panel.name for panel in panels] == ["KL", "arc acc_norm", "piqa acc"]
    assert panels[2].distilled[0].points[0].error == 0.1


def test_orders_that_score_alike_are_one_line() -> None:
    given = [replace(row, order="given") for row in rows("first")]
    (panel, _) = panels_of([*rows("first", "last"), *given])
    assert [line.orders for line in panel.distilled] == [("first", "given"), ("last",)]


def test_never_distilled_models_do_not_flatten_the_others() -> None:
    (panel,) = panels_of(rows(baseline={"kl": 9.0}))
    assert (panel.low, round(panel.high, 2), panel.above) == (0.0, 0.96, 9.0)
    assert panel.share(0.6) == pytest.approx(1 / 1.6)
