"""Which layers a student keeps when its teacher's layers differ in kind: pure integers, schedules of real models."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.pair.layer_mix import LayerKind, layers_in_mix, mix_of
from boomerang_cli.engine.pair.layers import LayerMap, default_kept_layers


def schedule(depth: int, pattern: str) -> str:
    """Repeat a pattern of kinds, a letter each."""
    return (pattern * depth)[:depth]


# Published depths and schedules: s sliding, f full, l linear attention; r rotary positions, n none; d dense, m sparse.
# Beside each: how many of each kind the paper's rule keeps, how many are kept, n, and the blocks' lengths.
REAL: dict[str, tuple[str, str, str, int, str]] = {
    "gemma3 270m": (schedule(18, "sssssf"), "s9 f1", "s8 f2", 7, "2222312211"),
    "gemma3 1b": (schedule(26, "sssssf"), "s14 f0", "s12 f2", 11, "22223222122211"),
    "gemma3 4b": (schedule(34, "sssssf"), "s18 f0", "s15 f3", 15, "222222232222221211"),
    "gemma3 12b": (schedule(48, "sssssf"), "s24 f1", "s21 f4", 22, "2222222322222212222222211"),
    "gemma3 27b": (schedule(62, "sssssf"), "s32 f0", "s27 f5", 28, "22222223222222122222223222122211"),
    "gemma2 2b": (schedule(26, "sf"), "s13 f1", "s7 f7", 10, "23221223221211"),
    "gemma2 9b": (schedule(42, "sf"), "s21 f1", "s11 f11", 17, "2322122322122322212211"),
    "gemma2 27b": (schedule(46, "sf"), "s23 f1", "s12 f12", 19, "232212232221222322212211"),
    "gpt_oss 20b": (schedule(24, "sf"), "s12 f1", "s7 f6", 9, "2322123212211"),
    "gpt_oss 120b": (schedule(36, "sf"), "s18 f1", "s10 f9", 15, "2322212223222122211"),
    "smollm3 3b": (schedule(36, "rrrn"), "r18 n1", "r14 n5", 16, "2222322222212222211"),
    "qwen3_next 80b": (schedule(48, "lllf"), "l24 f1", "l19 f6", 21, "2222322221222232212222211"),
    "olmo3 7b": (schedule(32, "sssf"), "s16 f1", "s13 f4", 14, "22223222212222211"),
    "deepseek_v3": ("ddd" + 58 * "m", "d2 m30", "d2 m30", 29, "22222222222222222222222222222111"),
}  # fmt: skip


def layer_map(kinds: Sequence[Hashable], **rule: int) -> LayerMap:
    return LayerMap(len(kinds), layers_in_mix(kinds, **rule))


def mix(kinds: str, kept: Sequence[int]) -> str:
    """Write how many layers of each kind are kept: ``s12 f2``."""
    return " ".join(f"{kind.name}{kind.student_layers}" for kind in mix_of(kinds, kept))


@pytest.mark.parametrize("model", REAL)
def test_students_of_real_models_keep_the_mix_in_short_blocks(model: str) -> None:
    kinds, papers, students, n, lengths = REAL[model]
    chosen = layer_map(kinds)
    assert mix(kinds, default_kept_layers(len(kinds))) == papers
    assert mix(kinds, chosen.kept) == students
    assert len(chosen.patchable) == n
    assert "".join(str(len(block)) for block in chosen.blocks) == lengths


def test_gemma3_1b_keeps_two_of_its_four_layers_with_full_attention() -> None:
    kept = layers_in_mix(schedule(26, "sssssf"))
    assert kept == (0, 2, 4, 6, 8, 11, 13, 15, 17, 18, 20, 22, 24, 25)
    assert set(kept) & {5, 11, 17, 23} == {11, 17}


@pytest.mark.parametrize(
    ("depth", "rule", "n"),
    [(36, {}, 17), (32, {}, 15), (28, {"keep_first": 2, "keep_last": 1}, 13)],
    ids=["Qwen3 4B and 8B", "Pythia 2.8B and 6.9B", "Llama 3.2 3B"],
)
def test_published_students_stay_as_they_are(depth: int, rule: dict[str, int], n: int) -> None:
    chosen = layer_map(["full_attention"] * depth, **rule)
    assert chosen.kept == default_kept_layers(depth, **rule)
    assert len(chosen.patchable) == n


@pytest.mark.parametrize("pattern", ["rrrn", "sf", "lllf"])
def test_where_the_papers_rule_keeps_the_mix_already_it_decides(pattern: str) -> None:
    assert layers_in_mix(schedule(36, pattern), every=3) == default_kept_layers(36, every=3)


@pytest.mark.parametrize("place", [0, *range(2, 41)])
def test_the_only_layer_of_a_kind_is_kept(place: int) -> None:
    assert place in layers_in_mix("s" * place + "f" + "s" * (40 - place))


def test_layer_0_is_kept_also_where_layer_1_is_the_only_one_of_its_kind() -> None:
    assert layers_in_mix("sf" + "s" * 39) == default_kept_layers(41)


def test_rules_that_make_no_sense_are_refused_as_ever() -> None:
    with pytest.raises(SelectionError, match="--every 1"):
        layers_in_mix("sfsf", every=1)


@pytest.mark.parametrize("period", [2, 7, 128])
def test_many_layers_of_many_kinds_are_answered_soon(period: int) -> None:
    kinds = [number % period for number in range(128)]
    start = time.process_time()
    assert len(layers_in_mix(kinds)) == len(default_kept_layers(128))
    assert time.process_time() - start < 3


def test_kinds_are_counted_in_the_order_in_which_they_appear() -> None:
    assert mix_of(["b", "a", "a"], [0, 2]) == (LayerKind("b", 1, 1), LayerKind("a", 2, 1))
    assert mix_of(["a", "a"], [0]) == ()


RULES = st.fixed_dictionaries(
    {"every": st.integers(2, 4), "keep_first": st.integers(1, 3), "keep_last": st.integers(1, 3)}
)


@given(st.text("abcd", min_size=1, max_size=60), RULES)
@settings(deadline=None, max_examples=100)
def test_depth_and_ends_are_the_papers_and_blocks_are_short(kinds: str, rule: dict[str, int]) -> None:
    depth, kept = len(kinds), layers_in_mix(kinds, **rule)
    assert len(kept) == len(default_kept_layers(depth, **rule))
    assert kept[0] == 0
    assert {*range(depth)[: rule["keep_first"]], *range(depth)[-rule["keep_last"] :]} <= {*kept}
    assert all(0 < later - earlier <= rule["every"] + 1 for earlier, later in pairwise(kept))


@given(st.text("abcd", min_size=1, max_size=60), RULES)
@settings(deadline=None, max_examples=50)
def test_what_kinds_are_called_does_not_matter(kinds: str, rule: dict[str, int]) -> None:
    assert layers_in_mix(kinds, **rule) == layers_in_mix([-ord(kind) for kind in kinds], **rule)


@given(st.integers(1, 100), RULES)
def test_one_kind_of_layer_is_the_papers_rule(depth: int, rule: dict[str, int]) -> None:
    assert layers_in_mix(["full_attention"] * depth, **rule) == default_kept_layers(depth, **rule)


@given(st.text("abc", min_size=2, max_size=6), st.integers(20, 64), st.integers(2, 3))
@settings(deadline=None, max_examples=100)
def test_a_repeated_schedule_keeps_every_kind_and_its_share_within_a_layer(
    pattern: str, depth: int, every: int
) -> None:
    kinds = schedule(depth, pattern)
    teacher, student = Counter(kinds), Counter(kinds[layer] for layer in layers_in_mix(kinds, every=every))
    share = Fraction(sum(student.values()), depth)
    assert student.keys() == teacher.keys()
    assert all(abs(student[kind] - share * count) <= 1 for kind, count in teacher.items())


@given(st.text("abc", min_size=4, max_size=16), RULES)
@settings(deadline=None, max_examples=100)
def test_no_other_choice_of_a_layer_a_block_is_nearer_to_the_mix(kinds: str, rule: dict[str, int]) -> None:
    blocks = LayerMap(len(kinds), default_kept_layers(len(kinds), **rule)).blocks
    nearest = min(_distance(kinds, kept, blocks, rule["every"]) for kept in _choices(blocks, **rule))
    assert _distance(kinds, layers_in_mix(kinds, **rule), blocks, rule["every"]) == nearest


def _choices(blocks: Sequence[range], every: int, keep_first: int, keep_last: int) -> Iterator[tuple[int, ...]]:
    """Yield every choice of one layer a block with the ends and the lengths that the rule allows."""
    for kept in product(*(block if block.start >= keep_first else block[:1] for block in blocks)):
        if all(later - earlier <= every + 1 for earlier, later in pairwise(kept)):
            yield kept


def _distance(kinds: str, kept: Sequence[int], blocks: Sequence[range], every: int) -> tuple[object, ...]:
    """Score a choice in the words of ``layers_in_mix``: what comes first in them comes first here."""
    names = sorted(set(kinds))
    student = Counter(kinds[layer] for layer in kept)
    off = sum(abs(student[name] - Fraction(kinds.count(name) * len(kept), len(kinds))) for name in names)
    away = [
        abs(
            sum(kinds[layer] == name for layer in kept[:number])
            - sum(Fraction(kinds[block.start : block.stop].count(name), len(block)) for block in blocks[:number])
        )
        for number in range(1, len(blocks) + 1)
        for name in names
    ]
    shifts = sum(later - earlier != every for earlier, later in pairwise(kept))
    lost = sum(not student[name] for name in names)
    return lost, off, sum(max(each - 1, Fraction()) for each in away), shifts, sum(away)
