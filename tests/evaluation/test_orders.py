"""Searches for orders: against brute force, and on a real pair with its passes counted."""

from __future__ import annotations

import random
from itertools import pairwise, permutations
from pathlib import Path

import pytest
import torch
from tiny_models import VOCABULARY, layer_config, make_config, make_model

from boomerang_cli.engine.evaluation.orders import Blocks, every_subset, exact, greedy, nested
from boomerang_cli.engine.evaluation.scoring import Scorer
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.models.compose import LoadedPair, load_pair
from boomerang_cli.engine.pair.pair import open_pair

BLOCKS = tuple(range(6))
KEPT = (0, 2, 4, 6, 8, 10)


@pytest.fixture
def distances() -> dict[Blocks, float]:
    return {each: random.Random(hash(each)).random() for each in every_subset(BLOCKS[:4])}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedPair:
    """Twelve layers, all six blocks patchable."""
    folder = tmp_path_factory.mktemp("pair")
    config = make_config("llama", num_hidden_layers=12, hidden_size=16)
    make_model(config, 1).save_pretrained(folder / "teacher")
    make_model(layer_config(config, KEPT), 2).save_pretrained(folder / "student")
    return load_pair(open_pair(folder / "student", folder / "teacher", keep=KEPT), dtype=torch.float32)


def windows() -> Windows:
    tokens = torch.randint(3, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(3))
    return Windows(tokens[:, :-1], tokens[:, 1:])


def distances_of(scorer: Scorer, sets: list[Blocks]) -> dict[Blocks, float]:
    sums = scorer.score([Variant(each) for each in sets], windows(), range(3))
    return {variant.blocks: sum(window.kl for window in found) for variant, found in sums.items()}


def test_exact_takes_the_closest_set_of_each_size(distances: dict[Blocks, float]) -> None:
    for size, found in enumerate(exact(BLOCKS[:4], distances).sets):
        assert distances[found] == min(value for blocks, value in distances.items() if len(blocks) == size)


def test_nested_order_is_the_best_of_all_permutations(distances: dict[Blocks, float]) -> None:
    def cost(sequence: tuple[int, ...]) -> float:
        return sum(distances[tuple(sorted(sequence[:size]))] for size in range(1, 5))

    found = nested(BLOCKS[:4], distances).sequence
    assert found == min(permutations(BLOCKS[:4]), key=cost)


def test_greedy_scores_each_remaining_block_once_a_size(distances: dict[Blocks, float]) -> None:
    scored: list[Blocks] = []
    greedy(BLOCKS[:4], lambda sets: scored.extend(sets) or distances)
    assert [len(blocks) for blocks in scored] == [1] * 4 + [2] * 3 + [3] * 2 + [4]


def test_greedy_goes_on_from_the_closest_set(distances: dict[Blocks, float]) -> None:
    sets = greedy(BLOCKS[:4], lambda sets: distances).sets
    for before, after in pairwise(sets):
        assert distances[after] == min(distances[tuple(sorted({*before, b}))] for b in BLOCKS[:4] if b not in before)


def test_the_widest_beam_is_exact(distances: dict[Blocks, float]) -> None:
    assert greedy(BLOCKS[:4], lambda sets: distances, beam=6).sets == exact(BLOCKS[:4], distances).sets


def test_exact_equals_brute_force_over_every_subset_scored_one_by_one(loaded: LoadedPair) -> None:
    scorer = Scorer(loaded)
    together = distances_of(scorer, every_subset(BLOCKS))
    one_by_one = {blocks: distances_of(scorer, [blocks])[blocks] for blocks in every_subset(BLOCKS)}
    assert exact(BLOCKS, together).sets == exact(BLOCKS, one_by_one).sets


def test_every_subset_costs_two_to_the_n_plus_one_block_passes(loaded: LoadedPair) -> None:
    scorer = Scorer(loaded)
    distances_of(scorer, every_subset(BLOCKS))
    assert scorer.stages.block_passes == 2**7 - 2


def test_candidates_of_one_size_share_the_blocks_before_the_first_difference(loaded: LoadedPair) -> None:
    scorer = Scorer(loaded)
    distances_of(scorer, [(block,) for block in BLOCKS])
    shared = 6  # of the teacher, for reference; the candidate that patches block 0 begins with it
    student_prefixes, own = 5, 5 + 5 + 4 + 3 + 2 + 1
    assert scorer.stages.block_passes == shared + student_prefixes + own


def test_an_order_that_was_searched_is_taken_by_patch(loaded: LoadedPair, tmp_path: Path) -> None:
    from boomerang_cli.engine.output.plan import as_json_text
    from boomerang_cli.engine.pair.order import read_order

    found = exact(BLOCKS, distances_of(Scorer(loaded), every_subset(BLOCKS)))
    layer_map = loaded.pair.layer_map
    (tmp_path / "order.json").write_text(as_json_text(found.as_json(layer_map)))
    assert read_order(tmp_path / "order.json", layer_map) == found
