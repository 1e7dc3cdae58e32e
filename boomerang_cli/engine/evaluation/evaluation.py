"""Models of one loaded pair scored by every measure; what is known already is not scored again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from boomerang_cli.engine.evaluation.asked import TaskSettings
from boomerang_cli.engine.evaluation.harness import Harness, metrics
from boomerang_cli.engine.evaluation.orders import Blocks
from boomerang_cli.engine.evaluation.paired import PairedScores, WindowSums
from boomerang_cli.engine.evaluation.prompts import Prompt
from boomerang_cli.engine.evaluation.record import Record
from boomerang_cli.engine.evaluation.scoring import Score, summarise
from boomerang_cli.engine.evaluation.search_cost import SearchCost
from boomerang_cli.engine.evaluation.set_tree import SetTree
from boomerang_cli.engine.evaluation.shared_scorer import Piece, SharedScorer
from boomerang_cli.engine.evaluation.speed import Speed, measure_speed
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.models.compose import LoadedPair, compose
from boomerang_cli.engine.output.plan import as_json_text
from boomerang_cli.engine.processes.group import decide, processes
from boomerang_cli.engine.processes.spread import spread

Item = TypeVar("Item")
Result = TypeVar("Result")
StageProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class Evaluation:
    """Scores variants of a pair, and keeps each score in a record as soon as it is known.

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
        record: Record,
        *,
        data: Windows | None,
        calibration: Windows | None,
        prompts: Sequence[Prompt] = (),
        batch_size: int | None = None,
        tell: StageProgress,
    ) -> None:
        self._loaded, self._tokenizer, self._record = loaded, tokenizer, record
        self.data, self.calibration, self.prompts = data, calibration, prompts
        self._layer_map = loaded.pair.layer_map
        self._scorer = SharedScorer(loaded, batch_size=batch_size)
        self.tell = tell

    def scores(self, variants: Sequence[Variant], windows: Windows, stage: str) -> dict[Variant, Score]:
        """Return what each model scores on a text: all of them together, batch by batch.

        Raises:
            ScoringError: see ``Scorer.score``; or a score is no number, as half precision can make it.
        """
        total = len(windows) * len(variants)
        unknown = self._unknown(variants, windows)
        while batches := list(islice(unknown, processes())):
            first, last = (row * len(variants) for row in (batches[0].rows.start, batches[-1].rows.stop))

            def tell(share: float, first: int = first, last: int = last) -> None:
                self.tell(stage, first + round(share * (last - first)), total)

            tell(0)
            for piece, found in self._scorer.score(batches, windows, tell):
                for position, row in enumerate(piece.rows):
                    sums = {variant.key: list(found[variant][position]) for variant in piece.variants}
                    self._record.add(f"window {windows.keys[row]}", sums)
        self.tell(stage, total, total)
        return {variant: summarise(self._sums(variant, windows), windows.tokens) for variant in variants}

    def _unknown(self, variants: Sequence[Variant], windows: Windows) -> Iterator[Piece]:
        """Yield the batches of a text that not all of the models are scored on, each with those that are not."""
        for rows in self._scorer.batches(windows):
            known = [self._record.get(f"window {windows.keys[row]}") for row in rows]
            if missing := [each for each in variants if not all(_holds(window, each.key) for window in known)]:
                yield Piece(rows, missing)

    def distances(self, sets: Sequence[Blocks], windows: Windows, stage: str) -> dict[Blocks, float]:
        """Return the KL to the teacher of the models that have these blocks patched."""
        scores = self.scores([Variant(blocks) for blocks in sets], windows, stage)
        return {variant.blocks: score.kl for variant, score in scores.items()}

    def batches(self, windows: Windows) -> Iterator[range]:
        """Yield the windows of one batch after another; score each before asking for the next."""
        return self._scorer.batches(windows)

    def paired(self, sets: Sequence[Blocks]) -> PairedScores:
        """Return what the models that have these blocks patched score on ``data``, window by window; all are scored."""
        assert self.data is not None, "a text is scored"
        return PairedScores(self.data.tokens, {blocks: self._sums(Variant(blocks), self.data) for blocks in sets})

    def divergences(self, sets: Sequence[Blocks], windows: Windows, rows: range) -> dict[Blocks, list[float]]:
        """Return the KL of each set's model from the teacher, summed over each window of a batch; nothing is kept.

        Raises:
            ScoringError: see :meth:`scores`.
        """
        found: dict[Blocks, list[float]] = {}
        batch = Piece(rows, [Variant(blocks) for blocks in sets])
        for piece, sums in self._scorer.score([batch], windows, kl_alone=True):
            found |= {variant.blocks: [window.kl for window in sums[variant]] for variant in piece.variants}
        return {blocks: found[blocks] for blocks in sets}

    def recall(self, key: str) -> Mapping[str, Any]:
        """Return what is kept in the journal under a key."""
        return self._record.get(key)

    def remember(self, key: str, values: Mapping[str, Any]) -> None:
        """Keep it there, at once."""
        self._record.add(key, values)

    def fit_search(self, tree: SetTree, windows: Windows) -> SearchCost:
        """Measure what it takes to score all sets of a tree, and choose how many windows at once fit into memory.

        Raises:
            ScoringError: a single window does not.
        """
        return self._scorer.fit_search(tree, windows)

    def speed(self, variant: Variant) -> Speed:
        """Measure a model on the first batch of ``data``, at rank 0 (errors as in ``speed.measure_speed``)."""
        assert self.data is not None, "the speed is measured on the text"
        key = f"speed {variant.key}"
        if not self._record.get(key):
            rows = next(self._scorer.batches(self.data))
            input_ids = self.data.input_ids[rows.start : rows.stop]
            self._record.add(key, decide(lambda: asdict(measure_speed(self._model(variant), input_ids))))
        return Speed(**self._record.get(key))

    def samples(self, variants: Sequence[Variant]) -> dict[Variant, tuple[dict[str, str], ...]]:
        """Return what each model writes behind each prompt, the two as ``prompt`` and ``text``.

        Raises:
            ScoringError: the device has too little memory, or the teacher's generation config is not taken.
        """
        asked = {
            (variant, prompt): f"sample {prompt.key} {variant.key}" for variant in variants for prompt in self.prompts
        }

        def write(item: tuple[Variant, Prompt]) -> str:
            variant, prompt = item
            return prompt.continued_by(self._model(variant), self._tokenizer)

        stages = {item: f"Continuing prompts, {self._depth(item[0])} layers" for item in asked}
        for item, text in self._find_out(asked, stages, write):
            self._record.add(asked[item], {"text": text})

        def text_of(variant: Variant, prompt: Prompt) -> str:
            return str(self._record.get(asked[variant, prompt])["text"])

        return {
            variant: tuple({"prompt": prompt.text, "text": text_of(variant, prompt)} for prompt in self.prompts)
            for variant in variants
        }

    def tasks(self, variants: Sequence[Variant], harness: Harness) -> dict[Variant, dict[str, dict[str, float]]]:
        """Run tasks of lm-eval, each whole in one process; keep its own JSON beside the journal, return its numbers."""
        settings = harness.settings
        asked = {(each, task): f"task {task} {settings.key} {each.key}" for each in variants for task in settings.tasks}

        def run(item: tuple[Variant, str]) -> dict[str, Any]:
            variant, task = item
            return harness.run(task, self._model(variant), self._tokenizer)

        stages = {item: f"{item[1]}, {self._depth(item[0])} layers" for item in asked}
        for item, results in self._find_out(asked, stages, run):
            self._record.keep_file(self.task_file(*item, settings), as_json_text(results).encode())
            self._record.add(asked[item], metrics(results))
        numbers: dict[Variant, dict[str, dict[str, float]]] = {variant: {} for variant in variants}
        for (variant, _), key in asked.items():
            numbers[variant] |= self._record.get(key)
        return numbers

    def _find_out(
        self, asked: Mapping[Item, str], stages: Mapping[Item, str], work: Callable[[Item], Result]
    ) -> Iterator[tuple[Item, Result]]:
        """Do what is not known yet, each in one of the processes, and yield what came out.

        Args:
            asked: under which key each is known.
            stages: what is told of each.
        """
        places = {item: done for done, item in enumerate(asked)}

        def tell_and_work(item: Item) -> Result:
            self.tell(stages[item], places[item], len(asked))
            return work(item)

        return spread([item for item, key in asked.items() if not self._record.get(key)], tell_and_work)

    def _model(self, variant: Variant) -> PreTrainedModel:
        return compose(self._loaded, variant.sources(self._layer_map))

    def _depth(self, variant: Variant) -> int:
        return len(variant.sources(self._layer_map))

    def task_file(self, variant: Variant, task: str, settings: TaskSettings) -> str:
        """Return where in the folder lm-eval's own JSON stands: ``lm_eval/<depth>L-blocks-3-7/<task>.json``.

        Of tasks that are put in another way than lm-eval's default, the name ends with a digest of that way.
        """
        depth = self._depth(variant)
        blocks = "-".join(map(str, variant.blocks)) or "none"
        return f"lm_eval/{depth}L-blocks-{blocks}/{task.replace('/', '_')}{settings.suffix}.json"

    def _sums(self, variant: Variant, windows: Windows) -> list[WindowSums]:
        return [WindowSums(*self._record.get(f"window {key}")[variant.key]) for key in windows.keys]


def _holds(window: Mapping[str, Any], key: str) -> bool:
    """Tell whether every measure of a model is known; an older sweep had fewer."""
    return len(window.get(key, ())) == len(WindowSums._fields)
