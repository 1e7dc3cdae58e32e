"""Models of one loaded pair scored by every measure; what is known already is not scored again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from boomerang_cli.engine.compose import LoadedPair, compose
from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.harness import Harness, metrics
from boomerang_cli.engine.journal import Journal
from boomerang_cli.engine.orders import Blocks, every_subset
from boomerang_cli.engine.scoring import Score, Scorer, WindowSums, is_out_of_memory, summarise
from boomerang_cli.engine.variants import Variant
from boomerang_cli.engine.windows import Windows
from boomerang_cli.engine.writer import as_json_text

StageProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_SPEED_RUNS = 3
_SAMPLED_BLOCKS = 3
"""An estimate scores the subsets of so many blocks: enough for them to share passes as all subsets would."""


class Evaluation:
    """Scores variants of a pair, and keeps each score in a journal as soon as it is known.

    Attributes:
        data: the text to score on, if any.
        calibration: the text to search orders on, if any.
        tell: reports progress.
    """

    def __init__(
        self,
        loaded: LoadedPair,
        tokenizer: PreTrainedTokenizerBase,
        journal: Journal,
        *,
        data: Windows | None,
        calibration: Windows | None,
        batch_size: int | None = None,
        on_progress: StageProgress | None = None,
    ) -> None:
        self._loaded, self._tokenizer, self._journal = loaded, tokenizer, journal
        self.data, self.calibration = data, calibration
        self._layer_map = loaded.pair.layer_map
        self._scorer = Scorer(loaded, batch_size=batch_size)
        self.tell = on_progress or (lambda stage, done, total: None)

    def scores(self, variants: Sequence[Variant], windows: Windows, stage: str) -> dict[Variant, Score]:
        """Return what each model scores on a text: all of them together, batch by batch.

        Raises:
            ScoringError: see ``Scorer.score``.
        """
        total = len(windows) * len(variants)
        for rows in self._scorer.batches(windows):
            self.tell(stage, rows.start * len(variants), total)
            known = [self._journal.get(f"window {windows.keys[row]}") for row in rows]
            if missing := [each for each in variants if not all(each.key in window for window in known)]:
                scored_before = rows.stop * len(variants) - len(rows) * len(missing)

                def tell(models: int, before: int = scored_before, windows: int = len(rows)) -> None:
                    self.tell(stage, before + models * windows, total)

                found = self._scorer.score(missing, windows, rows, tell)
                for position, row in enumerate(rows):
                    sums = {variant.key: list(found[variant][position]) for variant in missing}
                    self._journal.add(f"window {windows.keys[row]}", sums)
        self.tell(stage, total, total)
        return {variant: summarise(self._sums(variant, windows), windows.tokens) for variant in variants}

    def distances(self, sets: Sequence[Blocks], windows: Windows, stage: str) -> dict[Blocks, float]:
        """Return the KL to the teacher of the models that have these blocks patched."""
        scores = self.scores([Variant(blocks) for blocks in sets], windows, stage)
        return {variant.blocks: score.kl for variant, score in scores.items()}

    def knows(self, sets: Sequence[Blocks], windows: Windows) -> bool:
        """Tell whether the models that have these blocks patched are scored already."""
        keys = {Variant(blocks).key for blocks in sets}
        return all(keys <= self._journal.get(f"window {key}").keys() for key in windows.keys)

    def estimate_exact_seconds(self, windows: Windows) -> float:
        """Return about how long it takes to score every subset of the blocks, from a few of them on one batch."""
        blocks = self._layer_map.patchable
        sample = [Variant(each) for each in every_subset(blocks[-_SAMPLED_BLOCKS:])]
        rows = next(self._scorer.batches(windows))
        self._scorer.score(sample[:1], windows, rows[:1])  # the first pass of all is slower
        started = time.monotonic()
        self._scorer.score(sample, windows, rows)
        seconds = (time.monotonic() - started) / len(sample) / len(rows)  # a set and window
        return seconds * float(2 ** len(blocks)) * len(windows)

    def speed(self, variant: Variant) -> dict[str, Any]:
        """Measure ``tokens_per_second`` of a forward pass over a batch of text, and ``memory_bytes`` on a GPU.

        The fastest of a few runs of the whole model, after one that is not counted. Memory is the peak of one run and
        the weights of this model alone; None on a CPU, which does not tell.
        """
        key = f"speed {variant.key}"
        if not self._journal.get(key):
            self._journal.add(key, self._measure(variant))
        return dict(self._journal.get(key))

    def task(self, variant: Variant, task: str, harness: Harness) -> dict[str, dict[str, float]]:
        """Run a task of lm-eval, keep its own JSON beside the journal, and return its numbers."""
        key = f"task {task} {harness.settings.key} {variant.key}"
        if not self._journal.get(key):
            results = harness.run(task, compose(self._loaded, variant.sources(self._layer_map)), self._tokenizer)
            path = self.task_file(variant, task)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(as_json_text(results), encoding="utf-8")
            self._journal.add(key, metrics(results))
        return dict(self._journal.get(key))

    def task_file(self, variant: Variant, task: str) -> Path:
        """Return where lm-eval's own JSON stands: ``lm_eval/<depth>L-blocks-3-7/<task>.json``."""
        depth = len(variant.sources(self._layer_map))
        blocks = "-".join(map(str, variant.blocks)) or "none"
        return self._journal.folder / "lm_eval" / f"{depth}L-blocks-{blocks}" / f"{task.replace('/', '_')}.json"

    def _sums(self, variant: Variant, windows: Windows) -> list[WindowSums]:
        return [WindowSums(*self._journal.get(f"window {key}")[variant.key]) for key in windows.keys]

    def _measure(self, variant: Variant) -> dict[str, Any]:
        assert self.data is not None, "the speed is measured on the text"
        model, device = compose(self._loaded, variant.sources(self._layer_map)), self._loaded.device
        rows = next(self._scorer.batches(self.data))
        input_ids = self.data.input_ids[rows.start : rows.stop].to(device)
        on_gpu = device.type == "cuda"
        seconds: list[float] = []
        before = 0
        try:
            for _ in range(1 + _SPEED_RUNS):
                if on_gpu:
                    torch.cuda.synchronize(device)
                    torch.cuda.reset_peak_memory_stats(device)
                    before = torch.cuda.memory_allocated(device)
                started = time.monotonic()
                with torch.inference_mode():
                    model(input_ids, use_cache=False, logits_to_keep=1)
                if on_gpu:
                    torch.cuda.synchronize(device)
                seconds.append(time.monotonic() - started)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ScoringError(
                f"{device} has too little memory for a whole batch: give a smaller --batch-size"
            ) from None
        weights = sum(parameter.nbytes for parameter in model.parameters())
        memory = torch.cuda.max_memory_allocated(device) - before + weights if on_gpu else None
        return {"tokens_per_second": input_ids.numel() / min(seconds[1:]), "memory_bytes": memory}
