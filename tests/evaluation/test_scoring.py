"""Scores of many models at once against each model loaded from its own folder and run whole."""

from __future__ import annotations

from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import KEPT, LAYERS, VOCABULARY, save_pair
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.paired import WindowSums
from boomerang_cli.engine.evaluation.scoring import Scorer, summarise
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.models.compose import LoadedPair, load_pair
from boomerang_cli.engine.models.head import IGNORED_LABEL
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.patch import patch

LAYER_MAP = LayerMap(LAYERS, KEPT)
SUMS = [WindowSums(2.0, 1.0, 1.0, 0.5), WindowSums(4.0, 3.0, 2.0, 2.0)]
SUBSETS = [Variant(each) for each in chain.from_iterable(combinations(LAYER_MAP.patchable, k) for k in range(4))]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedPair:
    _, student = save_pair(tmp_path_factory.mktemp("pair"), "gemma2")
    return load_pair(open_pair(student), dtype=torch.float32)


@pytest.fixture(scope="module")
def windows() -> Windows:
    tokens = torch.randint(3, VOCABULARY, (5, 11), generator=torch.Generator().manual_seed(7))
    labels = tokens[:, 1:].clone()
    labels[2, :4] = IGNORED_LABEL
    return Windows(tokens[:, :-1], labels)


def score(loaded: LoadedPair, windows: Windows, variants: list[Variant], **settings: Any) -> Any:
    return Scorer(loaded, **settings).score(variants, windows, range(len(windows)))


def logits_of(folder: Path, windows: Windows) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(windows.input_ids).logits.double()


def test_every_model_scores_as_its_written_folder_does(loaded: LoadedPair, windows: Windows, tmp_path: Path) -> None:
    found = score(loaded, windows, SUBSETS)
    teacher = F.log_softmax(logits_of(loaded.pair.teacher.folder, windows), -1)
    real = windows.labels != IGNORED_LABEL
    for variant in SUBSETS:
        folder = tmp_path / variant.key
        patch(blocks=variant.blocks, student=loaded.pair.student.folder, output=folder)
        model = F.log_softmax(logits_of(folder, windows), -1)
        likelihood = -model.gather(-1, windows.labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        kl = (teacher.exp() * (teacher - model)).sum(-1)
        top1 = (model.argmax(-1) == teacher.argmax(-1)).double()
        acceptance = torch.minimum(model.exp(), teacher.exp()).sum(-1)
        expected = torch.stack([(each * real).sum(1) for each in (likelihood, kl, top1, acceptance)], dim=1)
        torch.testing.assert_close(torch.tensor(found[variant]).double(), expected, rtol=1e-5, atol=1e-4)


def test_the_teacher_is_no_distance_from_itself(loaded: LoadedPair, windows: Windows) -> None:
    teacher = Variant(LAYER_MAP.patchable)
    found = summarise(score(loaded, windows, [teacher])[teacher], windows.tokens)
    assert (found.kl, found.top1, found.acceptance) == (0.0, 1.0, 1.0)


def test_an_undistilled_model_is_the_teacher_with_layers_missing(loaded: LoadedPair, windows: Windows) -> None:
    naive = Variant((3,), distilled=False)
    assert {source.owner for source in naive.sources(LAYER_MAP)} == {"teacher"}
    assert [source.index for source in naive.sources(LAYER_MAP)] == [0, 2, 4, 5, 6, 7]


@pytest.mark.parametrize(("variants", "passes"), [
    # Blocks 0, 1, 3 are patchable; 2 and 4 follow their neighbours. The teacher's path is walked for reference.
    ([Variant((0, 1, 3))], 5),
    ([Variant((3,)), Variant((0, 1, 3))], 5 + 5),
    ([Variant(()), Variant((3,))], 5 + 5 + 3),
])  # fmt: skip
def test_models_that_begin_alike_share_their_passes(
    loaded: LoadedPair, windows: Windows, variants: list[Variant], passes: int
) -> None:
    scorer = Scorer(loaded)
    scorer.score(variants, windows, range(5))
    assert scorer.stages.block_passes == passes


def test_scores_do_not_depend_on_how_models_are_gathered(
    loaded: LoadedPair, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = score(loaded, windows, SUBSETS)
    monkeypatch.setattr("boomerang_cli.engine.evaluation.scoring.GATHERED_BYTES", 1)
    monkeypatch.setattr("boomerang_cli.engine.evaluation.scoring.CPU_CHUNK_BYTES", 3 * 4 * VOCABULARY)
    apart = score(loaded, windows, SUBSETS)
    for variant in SUBSETS:
        torch.testing.assert_close(torch.tensor(together[variant]), torch.tensor(apart[variant]), rtol=1e-5, atol=1e-5)


def test_divergences_alone_are_those_of_a_whole_score_to_the_bit(loaded: LoadedPair, windows: Windows) -> None:
    alone = Scorer(loaded).score(SUBSETS, windows, range(len(windows)), kl_alone=True)
    for variant, whole in score(loaded, windows, SUBSETS).items():
        assert alone[variant] == [WindowSums(0.0, each.kl, 0.0, 0.0) for each in whole]


class LogitRows(TorchDispatchMode):
    """Notes how many rows of logits stand in one tensor at most."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.dim() > 1 and tensor.shape[-1] == VOCABULARY:
                self.most = max(self.most, tensor.shape[:-1].numel())
        return result


def test_logits_of_a_batch_never_stand_whole(
    loaded: LoadedPair, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boomerang_cli.engine.evaluation.scoring.CPU_CHUNK_BYTES", 7 * 4 * VOCABULARY)
    with LogitRows() as rows:
        score(loaded, windows, SUBSETS)
    assert rows.most == 7


class FullDevice:
    """Makes a scorer's embedding fail as a device does that is out of memory, above some batch size."""

    def __init__(self, scorer: Scorer, at_most: int) -> None:
        self.begin, self.at_most = scorer.stages.begin, at_most

    def __call__(self, input_ids: torch.Tensor) -> Any:
        if len(input_ids) > self.at_most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.begin(input_ids)


def test_too_little_memory_halves_the_batch(
    loaded: LoadedPair, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(loaded)
    expected = scorer.score(SUBSETS, windows, range(5))
    monkeypatch.setattr(scorer.stages, "begin", FullDevice(scorer, at_most=2))
    found = scorer.score(SUBSETS, windows, range(5))
    assert scorer.batch_size in (1, 2)
    for variant in SUBSETS:
        torch.testing.assert_close(torch.tensor(found[variant]), torch.tensor(expected[variant]), rtol=1e-5, atol=1e-5)


def test_a_device_too_small_for_one_window_is_an_error(
    loaded: LoadedPair, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(loaded)
    monkeypatch.setattr(scorer.stages, "begin", FullDevice(scorer, at_most=0))
    with pytest.raises(ScoringError, match="too little memory for one window of 10 tokens: give a shorter"):
        scorer.score(SUBSETS, windows, range(5))


def test_perplexity_is_the_exponential_of_the_mean_over_tokens() -> None:
    assert summarise(SUMS, [1, 3]).perplexity == pytest.approx(2.718281828**1.5)


def test_other_measures_are_means_over_tokens() -> None:
    score = summarise(SUMS, [1, 3])
    assert (score.kl, score.top1, score.acceptance) == (1.0, 0.75, 0.625)


def test_standard_error_of_equal_windows_is_that_of_a_mean() -> None:
    values = torch.tensor([2.0, 3.0, 5.0, 6.0])
    score = summarise([WindowSums(10 * value, 0.0, 0.0, 0.0) for value in values.tolist()], [10] * 4)
    assert score.perplexity_stderr == pytest.approx(values.mean().exp().item() * values.std().item() / 4**0.5)


def test_one_window_has_no_standard_error() -> None:
    assert summarise(SUMS[:1], [4]).perplexity_stderr is None
