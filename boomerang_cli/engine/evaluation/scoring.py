"""How well models of a pair continue a text, and how far they are from the teacher; many models at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.paired import WindowSums, mean_of_windows
from boomerang_cli.engine.evaluation.stages import Leaf, Stages
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.models.compose import LoadedPair
from boomerang_cli.engine.models.head import (
    CPU_CHUNK_BYTES,
    GPU_CHUNK_BYTES,
    IGNORED_LABEL,
    token_cross_entropy,
    token_kl_divergence,
    token_log_probabilities,
)

CPU_BATCH_TOKENS = 4096
"""On the CPU larger batches are no faster: they leave the caches."""
GPU_BATCH_TOKENS = 16_384
GATHERED_BYTES = 256 * 2**20
GATHERED_MODELS = 32
"""Ends of models are gathered up to so many, or so many bytes of hidden states: the teacher's logits are made once for
them all. More would save little, and would leave the progress of a search unseen."""

_KL = WindowSums._fields.index("kl")

ModelProgress = Callable[[int], None]
"""Called with the number of models scored so far."""


@dataclass(frozen=True)
class Score:
    """What one model scores on a text.

    Attributes:
        perplexity: ``exp`` of the mean negative log-likelihood of a token.
        perplexity_stderr: its standard error over windows; None if there is but one.
        kl, kl_stderr: the mean over tokens of KL(teacher || model), in nats, and its standard error.
        top1: the share of positions where the model's most likely token is the teacher's.
        acceptance: the mean over positions of sum min(p, q): the share of tokens drafted by this model that speculative
            sampling accepts for the teacher (arXiv 2211.17192, theorem 3.5 and corollary 3.6).
    """

    perplexity: float
    perplexity_stderr: float | None
    kl: float
    kl_stderr: float | None
    top1: float
    acceptance: float


def summarise(sums: Sequence[WindowSums], tokens: Sequence[int]) -> Score:
    """Return the score of a text from those of its windows, of so many scored tokens each.

    The standard error of the perplexity is ``perplexity`` times that of the mean negative log-likelihood.
    """
    likelihood, kl, top1, acceptance = (mean_of_windows(values, tokens) for values in zip(*sums, strict=True))
    perplexity = math.exp(min(likelihood.value, 700.0))  # what is beyond has no name among the floats
    stderr = None if likelihood.stderr is None else perplexity * likelihood.stderr
    return Score(perplexity, stderr, kl.value, kl.stderr, top1.value, acceptance.value)


class Scorer:
    """Scores variants of one loaded pair.

    Args:
        batch_size: windows at once; None fills a batch that suits the device.

    Attributes:
        batch_size: halved whenever the device runs out of memory.
        stages: counts the passes.
        device: of both models.
        hidden_bytes: what the hidden states of one token take.
    """

    def __init__(self, loaded: LoadedPair, *, batch_size: int | None = None) -> None:
        self.batch_size = batch_size
        self.layer_map = loaded.pair.layer_map
        self.stages = Stages(loaded)
        self.device = loaded.device
        width = self.stages.heads["teacher"].weight
        self.hidden_bytes = width.shape[-1] * width.element_size()
        self._on_gpu = loaded.device.type == "cuda"

    def batches(self, windows: Windows) -> Iterator[range]:
        """Yield the windows of one batch after another; score each before asking for the next."""
        start = 0
        while start < len(windows):
            tokens = GPU_BATCH_TOKENS if self._on_gpu else CPU_BATCH_TOKENS
            size = self.batch_size or max(1, tokens // windows.input_ids.shape[1])
            rows = range(start, min(start + size, len(windows)))
            yield rows
            start = rows.stop

    def score(
        self,
        variants: Sequence[Variant],
        windows: Windows,
        rows: range,
        on_progress: ModelProgress | None = None,
        *,
        kl_alone: bool = False,
    ) -> dict[Variant, list[WindowSums]]:
        """Score some of the windows; return the sums of each window, in order.

        Args:
            kl_alone: leave the other measures at 0: all of them take 4 % more of a search, which needs none.

        Raises:
            ScoringError: the device has too little memory for a single window.
        """
        try:
            return self._score(variants, windows, rows, on_progress, kl_alone)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        if self._on_gpu:
            torch.cuda.empty_cache()
        if len(rows) == 1:
            raise ScoringError(
                f"{self.device} has too little memory for one window of {windows.input_ids.shape[1]} tokens: "
                "give a shorter --sequence-length, or --dtype bfloat16"
            )
        self.batch_size = len(rows) // 2
        first = self.score(variants, windows, rows[: self.batch_size], kl_alone=kl_alone)
        second = self.score(variants, windows, rows[len(rows) // 2 :], kl_alone=kl_alone)
        return {variant: first[variant] + second[variant] for variant in variants}

    @torch.inference_mode()
    def _score(
        self,
        variants: Sequence[Variant],
        windows: Windows,
        rows: range,
        on_progress: ModelProgress | None,
        kl_alone: bool,
    ) -> dict[Variant, list[WindowSums]]:
        targets = _Targets.of(windows, rows, self.device)
        batch = self.stages.begin(windows.input_ids[rows.start : rows.stop].to(self.device))
        teacher = Variant(self.layer_map.patchable, distilled=False)
        leaves = self.stages.walk([(each, each.steps(self.layer_map)) for each in (teacher, *variants)], batch)
        reference = targets.scored(next(leaves))
        sums: dict[Variant, list[WindowSums]] = {}
        for gathered in _gather(targets.scored(leaf) for leaf in leaves):
            sums |= self._compare(gathered, reference, targets, kl_alone)
            if on_progress:
                on_progress(len(sums))
        return sums

    def _compare(
        self, models: Sequence[Leaf[Variant]], teacher: Leaf[Variant], targets: _Targets, kl_alone: bool
    ) -> dict[Variant, list[WindowSums]]:
        """Run the heads, chunk by chunk of tokens: the logits of a batch never stand in memory whole."""
        shape = (len(models), len(WindowSums._fields), targets.windows)
        sums = torch.zeros(shape, dtype=torch.float64, device=self.device)
        vocabulary = len(self.stages.heads["teacher"].weight)
        tokens = max(1, (GPU_CHUNK_BYTES if self._on_gpu else CPU_CHUNK_BYTES) // (4 * vocabulary))
        for start in range(0, len(targets.labels), tokens):
            chunk = slice(start, start + tokens)
            labels, window = targets.labels[chunk], targets.window[chunk]
            expected = _Expected.of(self._log_probabilities(teacher, chunk))
            for index, model in enumerate(models):
                found = self._log_probabilities(model, chunk)
                if kl_alone:
                    sums[index, _KL].index_add_(0, window, expected.kl(found).double())
                else:
                    sums[index].index_add_(1, window, expected.compare(found, labels).double())
        columns = sums.transpose(1, 2).tolist()
        return {
            model.label: [WindowSums(*each) for each in column] for model, column in zip(models, columns, strict=True)
        }

    def _log_probabilities(self, model: Leaf[Variant], tokens: slice) -> Tensor:
        return token_log_probabilities(self.stages.heads[model.owner].logits(model.hidden[tokens]))


class _Expected(NamedTuple):
    """What the teacher says of some positions: log-probabilities and probabilities, and its most likely tokens."""

    logs: Tensor
    probabilities: Tensor
    best: Tensor

    @classmethod
    def of(cls, log_probabilities: Tensor) -> _Expected:
        return cls(log_probabilities, log_probabilities.exp(), log_probabilities.argmax(-1))

    def kl(self, found: Tensor) -> Tensor:
        """Return the KL(teacher || model) of each position, given the model's log-probabilities."""
        return token_kl_divergence(found, self.logs, self.probabilities)

    def compare(self, found: Tensor, labels: Tensor) -> Tensor:
        """Return the measures of ``WindowSums`` a position, ``[4, tokens]``; the model's log-probabilities are spent.

        sum min(p, q) is 1 - sum |p - q| / 2: that way it is 1 for the teacher itself, however its sums are rounded.
        """
        likelihood = token_cross_entropy(found, labels)
        kl = self.kl(found)
        top1 = (found.argmax(-1) == self.best).to(kl.dtype)
        distance = torch.linalg.vector_norm(found.exp_().sub_(self.probabilities), ord=1, dim=-1)
        return torch.stack([likelihood, kl, top1, 1 - distance / 2])


@dataclass(frozen=True)
class _Targets:
    """What a batch is scored on: all of it flat, over the scored positions alone.

    Attributes:
        positions: where they are among all positions.
        labels: the token after each.
        window: which window of the batch each is in.
        windows: the number of windows.
    """

    positions: Tensor
    labels: Tensor
    window: Tensor
    windows: int

    @classmethod
    def of(cls, windows: Windows, rows: range, device: torch.device) -> _Targets:
        labels = windows.labels[rows.start : rows.stop].to(device)
        positions = (labels != IGNORED_LABEL).flatten().nonzero().squeeze(1)
        return cls(positions, labels.flatten()[positions], positions // labels.shape[1], len(rows))

    def scored(self, leaf: Leaf[Variant]) -> Leaf[Variant]:
        """Return the hidden states at these positions, ``[tokens, hidden]``."""
        return replace(leaf, hidden=leaf.hidden.flatten(0, 1)[self.positions])


def _gather(leaves: Iterable[Leaf[Variant]]) -> Iterator[list[Leaf[Variant]]]:
    gathered: list[Leaf[Variant]] = []
    for leaf in leaves:
        gathered.append(leaf)
        if len(gathered) == GATHERED_MODELS or sum(each.hidden.nbytes for each in gathered) >= GATHERED_BYTES:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether torch failed for want of memory; on the CPU it has no exception of its own for that."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
