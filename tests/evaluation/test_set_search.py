"""The search of all sets: what it gives up early, what it holds, and that both change nothing that is found."""

from __future__ import annotations

import math
import random
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import VOCABULARY, layer_config, make_config, make_model

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.orders import Blocks, every_subset, exact, nested
from boomerang_cli.engine.evaluation.scoring import Scorer
from boomerang_cli.engine.evaluation.search import search_orders
from boomerang_cli.engine.evaluation.search_cost import SearchCost, fit_search
from boomerang_cli.engine.evaluation.set_search import SetSearch
from boomerang_cli.engine.evaluation.set_tree import SetDistances, SetTree
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.models.compose import LoadedPair, load_pair
from boomerang_cli.engine.pair.pair import open_pair

BLOCKS = (0, 2, 3, 5, 8, 9, 11)
TREE = SetTree(BLOCKS, subtree_blocks=3)
TEXT = torch.randint(3, VOCABULARY, (6, 9), generator=torch.Generator().manual_seed(3))
WINDOWS = Windows(TEXT[:, :-1], TEXT[:, 1:])


@dataclass
class Drawn:
    """An evaluation whose divergences are drawn: of so many windows at once, by seed."""

    seed: int
    at_once: int = 1
    journal: dict[str, dict[str, str]] = field(default_factory=dict)
    scored: list[list[Blocks]] = field(default_factory=list)

    def batches(self, windows: Windows) -> Iterator[range]:
        for start in range(0, len(windows), self.at_once):
            yield range(start, min(start + self.at_once, len(windows)))

    def divergences(self, sets: Sequence[Blocks], windows: Windows, rows: range) -> dict[Blocks, list[float]]:
        self.scored.append(list(sets))
        return {each: [self.draw(each, row) for row in rows] for each in sets}

    def draw(self, blocks: Blocks, row: int) -> float:
        size = (len(BLOCKS) - len(blocks)) * random.Random(f"{self.seed} {blocks}").random()
        return size * random.Random(f"{self.seed} {blocks} {row}").random()

    def recall(self, key: str) -> Mapping[str, str]:
        return self.journal.get(key, {})

    def remember(self, key: str, values: Mapping[str, str]) -> None:
        self.journal.setdefault(key, {}).update(values)


def true_distances(drawn: Drawn) -> dict[Blocks, float]:
    tokens = sum(WINDOWS.tokens)
    return {each: math.fsum(drawn.draw(each, row) for row in range(6)) / tokens for each in every_subset(BLOCKS)}


@settings(deadline=None, max_examples=20)
@given(st.integers(), st.integers(1, 6), st.permutations(TREE.roots))
def test_exact_is_that_of_all_distances_in_whatever_order_subtrees_are_searched(
    seed: int, at_once: int, roots: list[int]
) -> None:
    drawn = Drawn(seed, at_once)
    search = SetSearch(TREE, drawn, WINDOWS)
    search.search(roots, slack=0.0)
    assert exact(BLOCKS, search.found) == exact(BLOCKS, true_distances(drawn))


def test_what_is_found_is_the_distance_to_the_bit() -> None:
    drawn = Drawn(1)
    search = SetSearch(TREE, drawn, WINDOWS)
    search.search(TREE.roots, slack=math.inf)
    assert {each: search.found[each] for each in every_subset(BLOCKS)} == true_distances(drawn)


def test_sets_that_can_win_no_more_are_given_up() -> None:
    searched, all_of_it = Drawn(2), Drawn(2)
    SetSearch(TREE, searched, WINDOWS).search(TREE.roots, slack=0.0)
    SetSearch(TREE, all_of_it, WINDOWS).search(TREE.roots, slack=math.inf)
    assert sum(map(len, searched.scored)) < 0.6 * sum(map(len, all_of_it.scored))


def test_no_more_sets_are_scored_together_than_a_subtree_holds() -> None:
    drawn = Drawn(3)
    SetSearch(TREE, drawn, WINDOWS).search(TREE.roots, slack=math.inf)
    assert max(map(len, drawn.scored)) == TREE.sets_below == 8


def test_a_search_goes_on_where_it_was_stopped() -> None:
    drawn = Drawn(4)
    SetSearch(TREE, drawn, WINDOWS).search([0, 1, 2], slack=0.0)
    drawn.scored.clear()
    search = SetSearch(TREE, drawn, WINDOWS)
    search.search(TREE.roots, slack=0.0)
    assert {TREE.number_of(each) // 8 for sets in drawn.scored for each in sets} == {*TREE.roots} - {0, 1, 2}
    assert exact(BLOCKS, search.found) == exact(BLOCKS, true_distances(drawn))
    drawn.scored.clear()
    SetSearch(TREE, drawn, WINDOWS).search(TREE.roots, slack=0.0)
    assert not drawn.scored


def test_subtrees_searched_elsewhere_are_taken_in() -> None:
    drawn = Drawn(5)
    here, there = SetSearch(TREE, drawn, WINDOWS), SetSearch(TREE, Drawn(5), WINDOWS)
    here.search(TREE.roots[::2], slack=0.0)
    for root in TREE.roots[1::2]:
        here.keep(root, there.searched(root, slack=0.0))
    assert here.is_done
    assert exact(BLOCKS, here.found) == exact(BLOCKS, true_distances(drawn))


def test_a_divergence_that_rounding_made_negative_is_no_reason_to_give_up() -> None:
    drawn = Drawn(6)
    drawn.draw = lambda blocks, row: (1e-5 if row == 0 else -2e-6) if blocks == (0,) else 0.0  # type: ignore[method-assign]
    search = SetSearch(TREE, drawn, WINDOWS)
    search.search(TREE.roots, slack=0.0)
    assert search.found[0,] == true_distances(drawn)[0,]


def test_a_bound_is_no_distance() -> None:
    found = SetDistances(TREE)
    found.add_bound((0, 2), 0.25)
    found.add((0, 3), -1e-7)
    found.add_bound((0, 5), -1e-9)  # rounding alone
    assert (found[0, 2], found.bound((0, 2)), found[0, 3]) == (math.inf, 0.25, -1e-7)
    assert (found[0, 5], found.bound((0, 5))) == (math.inf, 0.0)
    assert found.closest[2] == -1e-7


def test_sets_are_numbered_as_the_tree_is_walked() -> None:
    numbers = [TREE.number_of(each) for root in TREE.roots for each in TREE.sets(root)]
    assert numbers == list(range(2 ** len(BLOCKS)))


def test_pruning_finds_the_same_orders_on_a_real_pair(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"order": ["exact,nested,greedy"], "batch_size": 1}
    every = run(**settings, output=tmp_path / "every").rows
    monkeypatch.setattr("boomerang_cli.engine.evaluation.search.PRUNED_FROM", 1)
    assert run(**settings, output=tmp_path / "pruned").rows == every


@pytest.mark.parametrize("seed", range(8))
def test_pruning_finds_the_nested_order_of_all_distances(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole(Drawn):
        def distances(self, sets: Sequence[Blocks], windows: Windows, stage: str) -> dict[Blocks, float]:
            return {each: true_distances(self)[each] for each in sets}

        def fit_search(self, tree: SetTree, windows: Windows) -> SearchCost:
            return SearchCost(seconds=0.0, bytes=0, windows_at_once=1)

        def tell(self, stage: str, done: int, total: int) -> None:
            pass

    monkeypatch.setattr("boomerang_cli.engine.evaluation.search.PRUNED_FROM", 1)
    drawn = Whole(seed)
    found = search_orders(["nested"], BLOCKS, drawn, WINDOWS)  # type: ignore[arg-type]
    assert found == {"nested": nested(BLOCKS, true_distances(drawn))}
    assert 0 < sum(map(len, drawn.scored)) < 6 * 2 ** len(BLOCKS)


def test_greedy_alone_needs_no_room_for_all_sets() -> None:
    class Distant:
        def distances(self, sets: Sequence[Blocks], windows: Windows, stage: str) -> dict[Blocks, float]:
            return {each: float(sum(each)) for each in sets}

    found = search_orders(["greedy"], tuple(range(60)), Distant(), WINDOWS)  # type: ignore[arg-type]
    assert found["greedy"].sequence == tuple(range(60))


def test_what_a_search_takes_is_told_before(run: Any) -> None:
    notes: list[str] = []
    run(order=["exact"], on_note=notes.append)
    (told,) = (note for note in notes if note.startswith("searching "))
    assert told.startswith("searching 8 sets of blocks on 13 windows, 13 at once: at most about 0 seconds, and ")
    assert told.endswith("of memory beside the models")


# On a real pair


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedPair:
    """Twelve layers, all six blocks patchable."""
    folder, kept = tmp_path_factory.mktemp("pair"), (0, 2, 4, 6, 8, 10)
    config = make_config("llama", num_hidden_layers=12, hidden_size=16)
    make_model(config, 1).save_pretrained(folder / "teacher")
    make_model(layer_config(config, kept), 2).save_pretrained(folder / "student")
    return load_pair(open_pair(folder / "student", folder / "teacher", keep=kept), dtype=torch.float32)


def test_subtrees_give_what_all_sets_at_once_do(loaded: LoadedPair) -> None:
    blocks = loaded.pair.layer_map.patchable
    together = Scorer(loaded).score([Variant(each) for each in every_subset(blocks)], WINDOWS, range(6))
    tree = SetTree(blocks, subtree_blocks=2)
    for root in tree.roots:
        apart = Scorer(loaded).score([Variant(each) for each in tree.sets(root)], WINDOWS, range(6))
        assert apart == {variant: together[variant] for variant in apart}


@pytest.mark.parametrize("last", [2, 6])
def test_hidden_states_are_held_once_for_each_block_that_varies(loaded: LoadedPair, last: int) -> None:
    scorer, held = Scorer(loaded), []
    run = scorer.stages.run
    alive: list[Any] = []

    def spy(*args: Any) -> torch.Tensor:
        hidden = run(*args)
        alive.append(weakref.ref(hidden))
        held.append(sum(reference() is not None for reference in alive))
        return hidden

    scorer.stages.run = spy  # type: ignore[method-assign]
    sets = [Variant(each) for each in every_subset(loaded.pair.layer_map.patchable[-last:])]
    scorer.score(sets, WINDOWS, range(1))
    assert max(held) <= last + 3  # with what enters and leaves the block at work, and the end before


def test_fewer_windows_at_once_where_memory_is_short(loaded: LoadedPair, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, tree = Scorer(loaded), SetTree(loaded.pair.layer_map.patchable)
    plenty = fit_search(scorer, tree, WINDOWS)
    assert (plenty.windows_at_once, scorer.batch_size) == (6, None)
    free = "boomerang_cli.engine.evaluation.search_cost.free_memory_bytes"
    monkeypatch.setattr(free, lambda _: plenty.bytes)  # of which half is used
    short = fit_search(scorer, tree, WINDOWS)
    assert short.windows_at_once == scorer.batch_size < 6
    assert short.bytes <= plenty.bytes / 2
    monkeypatch.setattr(free, lambda _: 1000)
    with pytest.raises(ScoringError, match="GiB to spare: give a shorter --sequence-length"):
        fit_search(scorer, tree, WINDOWS)
