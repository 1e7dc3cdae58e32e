"""Models of one loaded pair scored by every measure; what is known already is not scored again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from transformers import PreTrainedTokenizerBase

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.asked import TaskSettings
from boomerang_cli.engine.evaluation.harness import Harness, metrics
from boomerang_cli.engine.evaluation.journal import Journal
from boomerang_cli.engine.evaluation.orders import Blocks, every_subset
from boomerang_cli.engine.evaluation.paired import PairedScores, WindowSums
from boomerang_cli.engine.evaluation.prompts import Prompt
from boomerang_cli.engine.evaluation.scoring import Score, Scorer, summarise
from boomerang_cli.engine.evaluation.speed import Speed, measure_speed
from boomerang_cli.engine.evaluation.sweep_files import keep_file
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.models.compose import LoadedPair, compose
from boomerang_cli.engine.output.plan import as_json_text

StageProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_SAMPLED_BLOCKS = 3
"""An estimate scores the subsets of so many blocks: enough for them to share passes as all subsets would."""


class Evaluation:
    """Scores variants of a pair, and keeps each score in a journal as soon as it is known.

    Attributes:
        data: the text to score on, if any.
        calibration: the text to search orders on, if any.
        prompts: what every model is to continue.
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
        prompts: Sequence[Prompt] = (),
        batch_size: int | None = None,
        tell: StageProgress,
    ) -> None:
        self._loaded, self._tokenizer, self._journal = loaded, tokenizer, journal
        self.data, self.calibration, self.prompts = data, calibration, prompts
        self._layer_map = loaded.pair.layer_map
        self._scorer = Scorer(loaded, batch_size=batch_size)
        self.tell = tell

    def scores(self, variants: Sequence[Variant], windows: Windows, stage: str) -> dict[Variant, Score]:
        """Return what each model scores on a text: all of them together, batch by batch.

        Raises:
            ScoringError: see ``Scorer.score``; or a score is no number, as half precision can make it.
        """
        total = len(windows) * len(variants)
        for rows in self._scorer.batches(windows):
            self.tell(stage, rows.start * len(variants), total)
            known = [self._journal.get(f"window {windows.keys[row]}") for row in rows]
            if missing := [each for each in variants if not all(_holds(window, each.key) for window in known)]:
                scored_before = rows.stop * len(variants) - len(rows) * len(missing)

                def tell(models: int, before: int = scored_before, windows: int = len(rows)) -> None:
                    self.tell(stage, before + models * windows, total)

                found = self._scorer.score(missing, windows, rows, tell)
                _check_finite(found)
                for position, row in enumerate(rows):
                    sums = {variant.key: list(found[variant][position]) for variant in missing}
                    self._journal.add(f"window {windows.keys[row]}", sums)
        self.tell(stage, total, total)
        return {variant: summarise(self._sums(variant, windows), windows.tokens) for variant in variants}

    def distances(self, sets: Sequence[Blocks], windows: Windows, stage: str) -> dict[Blocks, float]:
        """Return the KL to the teacher of the models that have these blocks patched."""
        scores = self.scores([Variant(blocks) for blocks in sets], windows, stage)
        return {variant.blocks: score.kl for variant, score in scores.items()}

    def paired(self, sets: Sequence[Blocks]) -> PairedScores:
        """Return what the models that have these blocks patched score on ``data``, window by window; all are scored."""
        assert self.data is not None, "a text is scored"
        return PairedScores(self.data.tokens, {blocks: self._sums(Variant(blocks), self.data) for blocks in sets})

    def knows(self, sets: Sequence[Blocks], windows: Windows) -> bool:
        """Tell whether the models that have these blocks patched are scored already."""
        keys = {Variant(blocks).key for blocks in sets}
        known = (self._journal.get(f"window {key}") for key in windows.keys)
        return all(_holds(window, key) for window in known for key in keys)

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

    def speed(self, variant: Variant) -> Speed:
        """Measure a model on the first batch of ``data`` (errors as in ``speed.measure_speed``)."""
        assert self.data is not None, "the speed is measured on the text"
        key = f"speed {variant.key}"
        if not self._journal.get(key):
            rows = next(self._scorer.batches(self.data))
            input_ids = self.data.input_ids[rows.start : rows.stop].to(self._loaded.device)
            model = compose(self._loaded, variant.sources(self._layer_map))
            self._journal.add(key, asdict(measure_speed(model, input_ids)))
        return Speed(**self._journal.get(key))

    def samples(self, variant: Variant) -> tuple[dict[str, str], ...]:
        """Return what a model writes behind each prompt, the two as ``prompt`` and ``text``.

        Raises:
            ScoringError: the device has too little memory, or the teacher's generation config is not taken.
        """
        keys = [f"sample {prompt.key} {variant.key}" for prompt in self.prompts]
        missing = [(key, prompt) for key, prompt in zip(keys, self.prompts, strict=True) if not self._journal.get(key)]
        model = compose(self._loaded, variant.sources(self._layer_map)) if missing else None
        for key, prompt in missing:
            assert model is not None
            self._journal.add(key, {"text": prompt.continued_by(model, self._tokenizer)})
        texts = [self._journal.get(key)["text"] for key in keys]
        return tuple({"prompt": prompt.text, "text": text} for prompt, text in zip(self.prompts, texts, strict=True))

    def task(self, variant: Variant, task: str, harness: Harness) -> dict[str, dict[str, float]]:
        """Run a task of lm-eval, keep its own JSON beside the journal, and return its numbers."""
        key = f"task {task} {harness.settings.key} {variant.key}"
        if not self._journal.get(key):
            results = harness.run(task, compose(self._loaded, variant.sources(self._layer_map)), self._tokenizer)
            content = as_json_text(results).encode()
            keep_file(self._journal.folder, self.task_file(variant, task, harness.settings), content)
            self._journal.add(key, metrics(results))
        return dict(self._journal.get(key))

    def task_file(self, variant: Variant, task: str, settings: TaskSettings) -> str:
        """Return where in the folder lm-eval's own JSON stands: ``lm_eval/<depth>L-blocks-3-7/<task>.json``.

        Of tasks that are put in another way than lm-eval's default, the name ends with a digest of that way.
        """
        depth = len(variant.sources(self._layer_map))
        blocks = "-".join(map(str, variant.blocks)) or "none"
        return f"lm_eval/{depth}L-blocks-{blocks}/{task.replace('/', '_')}{settings.suffix}.json"

    def _sums(self, variant: Variant, windows: Windows) -> list[WindowSums]:
        return [WindowSums(*self._journal.get(f"window {key}")[variant.key]) for key in windows.keys]


def _holds(window: Mapping[str, Any], key: str) -> bool:
    """Tell whether every measure of a model is known; an older sweep had fewer."""
    return len(window.get(key, ())) == len(WindowSums._fields)


def _check_finite(found: Mapping[Variant, Sequence[WindowSums]]) -> None:
    for variant, windows in found.items():
        if not all(math.isfinite(value) for sums in windows for value in sums):
            raise ScoringError(
                f"the model with the blocks {variant.key} patched gives scores that are no numbers: "
                "give --dtype float32"
            )
