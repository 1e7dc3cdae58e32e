"""The texts of a sweep: the one that models are scored on, and the one that orders are searched on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from boomerang_cli.engine.distillation.data import Source, find_sources
from boomerang_cli.engine.distillation.readers import TEXT_COLUMN
from boomerang_cli.engine.distillation.sequences import check_token_ids
from boomerang_cli.engine.distillation.text import check_sequence_length, positions_of
from boomerang_cli.engine.errors import DataError
from boomerang_cli.engine.evaluation.text_settings import TextSettings
from boomerang_cli.engine.evaluation.windows import Windows, read_windows
from boomerang_cli.engine.pair.order import SEARCHED
from boomerang_cli.engine.pair.origin import told
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.pair.student_config import STUDENT_CONFIG_FILE, StudentConfig

DEFAULT_LENGTH = 2048
_ORIGIN = f"the student's {STUDENT_CONFIG_FILE} names the text, --data another"


@dataclass(frozen=True)
class Texts:
    """Text that was found, but not read.

    Attributes:
        data: what is scored on; empty without text.
        lacking: why there is none, as part of an error; None where it was named.
        length, stride: of windows, in tokens.
        vocabulary_size: tokens that the models know.
    """

    data: tuple[Source, ...]
    lacking: str | None
    calibration: tuple[Source, ...]
    length: int
    stride: int
    settings: TextSettings
    vocabulary_size: int

    def read_data(self, tokenizer: PreTrainedTokenizerBase) -> Windows | None:
        """Return the windows to score on.

        Raises:
            DataError: as in ``windows.read_windows``, or tokens that the models lack.
        """
        if not self.data:
            return None
        with told(None if self.settings.data else _ORIGIN):
            return self._read(self.data, tokenizer, self.settings.sequences, "--data")

    def read_calibration(self, tokenizer: PreTrainedTokenizerBase, data: Windows | None) -> Windows | None:
        """Return the windows to search on: by default the first of ``data``."""
        count = self.settings.calibration_sequences
        if not self.calibration:
            return data and data.first(count)
        return self._read(self.calibration, tokenizer, count, "--calibration")

    def _read(self, sources: Sequence[Source], tokenizer: PreTrainedTokenizerBase, at_most: int, flag: str) -> Windows:
        windows = read_windows(sources, tokenizer, self.length, stride=self.stride, at_most=at_most, flag=flag)
        check_token_ids(windows.input_ids, tokenizer, self.vocabulary_size)
        check_token_ids(windows.labels, tokenizer, self.vocabulary_size)
        return windows


def find_texts(settings: TextSettings, pair: Pair) -> Texts:
    """Find out what the settings name; nothing is read.

    Raises:
        DataError: a path that does not exist, or windows whose numbers do not fit together.
        TrainingError: windows that are longer than the teacher was made for.
    """
    length = settings.sequence_length
    if length is None:
        length = min(DEFAULT_LENGTH, positions_of(pair.teacher) or DEFAULT_LENGTH)
    check_sequence_length(pair.teacher, length)
    stride = replace(settings, sequence_length=length).stride or length
    data, lacking = (_named(settings.data, "--data"), None) if settings.data else _recorded(pair.student_config)
    calibration = _named(settings.calibration, "--calibration")
    return Texts(data, lacking, calibration, length, stride, settings, pair.vocabulary_size)


def check_purpose(texts: Texts, orders: Sequence[str], need_text: Sequence[str], *, asks: bool) -> None:
    """Refuse a sweep that nothing would be scored on.

    Args:
        orders: their names; some are searched on text.
        need_text: the flags given that ask for scores on text.
        asks: there are tasks or prompts, which are text of their own.

    Raises:
        DataError: says which option lacks text.
    """
    searched = [f"--order {name}" for name in orders if name in SEARCHED]
    if searched and not (texts.data or texts.calibration):
        raise DataError(f"{searched[0]} is searched on text: give --data or --calibration")
    if not texts.data and need_text:
        raise DataError(f"{need_text[0]} needs text to score on: give --data")
    if not texts.data and not asks:
        raise DataError(
            f"nothing to score on, as {texts.lacking}: give --data, --tasks or --prompt, or --dry-run to see the sizes"
        )


def _named(values: Sequence[str], flag: str) -> tuple[Source, ...]:
    try:
        return find_sources((), values).evaluation
    except DataError as error:  # which speaks of distillation's flag
        raise DataError(str(error).replace("--eval-data", flag, 1)) from None


def _recorded(student: StudentConfig) -> tuple[tuple[Source, ...], str | None]:
    """Return the text that the student's distillation was evaluated on, which it was not trained on; else why not."""
    recorded = student.distillation.get("recipe")
    recipe = recorded if isinstance(recorded, dict) else {}
    data, eval_data = (recipe.get(key) or () for key in ("data", "eval_data"))
    try:
        found = find_sources(data, eval_data, column=str(recipe.get("text_column") or TEXT_COLUMN)).evaluation
    except DataError:
        return (), f"the text that the student was evaluated on, {', '.join(map(str, eval_data or data))}, is not here"
    except TypeError:
        found = ()
    return found, None if found else "the student records no text that it was evaluated on"
