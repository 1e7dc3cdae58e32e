"""The published pairs, by their Hub names alone: every size, on headers true to their configurations."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
from hub_double import HubDouble
from huggingface_hub import constants
from published import ADAPT, PAIRS, Published, add_to_cache, add_to_hub, shapes, write_student, write_teacher

from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.pair.pair import Pair, open_pair
from boomerang_cli.engine.patch import patch

each_pair = pytest.mark.parametrize("published", [*PAIRS, *ADAPT], ids=lambda pair: pair.student.rpartition("/")[2])


@pytest.fixture
def cached(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """The pair in the cache of a machine that is offline, opened by the student's name alone."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    add_to_cache(tmp_path / "cache", published.teacher, write_teacher(tmp_path / "teacher", published))
    add_to_cache(tmp_path / "cache", published.student, write_student(tmp_path / "student", published))
    return open_pair(published.student)


def layer_parameters(published: Published) -> int:
    """Return a layer's parameters: what a model of two layers has more than one of one."""
    counts = [sum(prod(shape) for _, shape in shapes(published.config, depth, "F16").values()) for depth in (1, 2)]
    return counts[1] - counts[0]


@each_pair
def test_a_published_student_finds_its_teacher_and_its_order(published: Published, cached: Pair) -> None:
    assert cached.teacher.name == published.teacher
    assert len(cached.layer_map.patchable) == published.n
    result = patch(student=published.student, layers=1, dry_run=True)
    assert result.order == published.order
    first, last = cached.layer_map.patchable[0], cached.layer_map.patchable[-1]
    assert result.patched_blocks == ((first,) if published.order == "first" else (last,))


@each_pair
def test_every_size_has_the_parameters_of_its_layers(published: Published, cached: Pair) -> None:
    """The teacher's count is its page's; a block adds a layer; between the ends a tied model stores two matrices."""
    planner, layer = Planner(cached), layer_parameters(published)
    order = cached.layer_map.order(published.order)
    vocabulary = published.config["vocab_size"] * published.config["hidden_size"]
    for k in range(published.n + 1):
        plan = planner.plan(order[:k])
        untied = vocabulary if published.config["tie_word_embeddings"] and 0 < k < published.n else 0
        assert len(plan.sources) == published.depth - published.n + k
        assert plan.parameters == published.parameters - (published.n - k) * layer + untied
        assert plan.tied == (published.config["tie_word_embeddings"] and k in (0, published.n))
        assert plan.size_bytes == 2 * plan.parameters  # where two dtypes meet, bfloat16


@each_pair
def test_a_students_name_tells_its_size(published: Published, cached: Pair) -> None:
    stored = Planner(cached).plan(()).parameters / 1e9
    assert f"-{stored:.1f}B" in published.student


@pytest.mark.parametrize("published", PAIRS[:1])
def test_qwen3_4b_stores_2_307_billion_tied_and_2_696_untied(published: Published, cached: Pair) -> None:
    planner, layer = Planner(cached), layer_parameters(published)
    assert round(planner.plan(()).parameters / 1e9, 3) == 2.307
    one_block = planner.plan(cached.layer_map.patchable[-1:])
    assert round((one_block.parameters - layer) / 1e9, 3) == 2.696


@pytest.mark.parametrize(("order", "share"), [("auto", 0.211), ("first", 0.156)])
def test_a_dry_run_of_pythia_2_8b_tells_what_a_run_fetches(
    hub: HubDouble, tmp_path: Path, order: str, share: float
) -> None:
    """With k = 2, last first, that is layers 26 to 31 with the final norm and the head; first first, layers 0 to 3."""
    published = PAIRS[2]
    teacher = write_teacher(tmp_path / "teacher", published)
    add_to_hub(hub, published.teacher, teacher)
    add_to_hub(hub, published.student, write_student(tmp_path / "student", published))
    result = patch(student=published.student, layers=2, order=order, dry_run=True)
    fetched = result.plan.fetch_bytes[published.teacher]
    whole = sum(path.stat().st_size for path in teacher.glob("*.safetensors"))
    wanted = [copy.source.size_bytes for copy in result.plan.copies if copy.owner == "teacher"]
    assert fetched == sum(wanted) + len("{}")  # the tokenizer
    assert round(fetched / whole, 3) == share
    assert sum(request.bytes_sent for request in hub.requests) < 1_000_000
