"""Tasks of lm-eval, the evaluation harness, on models in memory (extra ``eval``)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.quiet import keep_quiet, quiet_transformers


@dataclass(frozen=True)
class TaskSettings:
    """Which tasks are run, and how.

    Attributes:
        limit: examples of each task; None is all.
        num_fewshot: examples in the context; None is the task's own number.
        batch_size: a number, or ``auto`` for lm-eval's own search.
        include_path: a folder of task definitions beside lm-eval's own.
    """

    tasks: Sequence[str] = ()
    limit: int | None = None
    num_fewshot: int | None = None
    batch_size: int | str = "auto"
    include_path: Path | None = None

    @property
    def key(self) -> str:
        """What of it decides the numbers."""
        return f"limit={self.limit},num_fewshot={self.num_fewshot}"


class Harness:
    """Runs tasks.

    Raises:
        ScoringError: lm-eval is not installed, or does not know one of the tasks.
    """

    def __init__(self, settings: TaskSettings) -> None:
        try:
            from lm_eval.tasks import TaskManager
        except ImportError:
            raise ScoringError("--tasks needs lm-eval: pip install 'boomerang-cli[eval]'") from None
        keep_quiet("lm_eval")
        self.settings = settings
        include = None if settings.include_path is None else str(settings.include_path)
        self._manager = TaskManager(include_path=include)
        for task in settings.tasks:
            if task not in self._manager.all_tasks:
                near = get_close_matches(task, self._manager.all_tasks, n=3)
                hint = f"did you mean {', '.join(near)}" if near else "`lm-eval ls tasks` lists them"
                raise ScoringError(f"--tasks {task} is no task of lm-eval: {hint}, or give --include-path for your own")

    def run(self, task: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Return lm-eval's results for one task, as its own command would write them, without the samples.

        Raises:
            ScoringError: the task failed, such as for want of its dataset.
        """
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        try:
            with quiet_transformers(), _silence():
                results = lm_eval.simple_evaluate(
                    # A fresh HFLM for each model: it keeps what it found out about one.
                    model=HFLM(
                        pretrained=model,
                        tokenizer=tokenizer,
                        batch_size=self.settings.batch_size,
                        device=str(model.device),
                    ),
                    tasks=[task],
                    num_fewshot=self.settings.num_fewshot,
                    limit=self.settings.limit,
                    task_manager=self._manager,
                    log_samples=False,
                    verbosity="ERROR",
                )
        except Exception as error:  # tasks are programs of their own: they raise whatever there is
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ScoringError(f"--tasks {task} failed: {reason}") from error
        return _as_json(results)


@contextmanager
def _silence() -> Iterator[None]:
    """Send stderr nowhere, that of child processes too: lm-eval draws bars of its own, and has git complain."""
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _as_json(results: Any) -> dict[str, Any]:
    from lm_eval.utils import handle_non_serializable

    plain: dict[str, Any] = json.loads(json.dumps(results, default=handle_non_serializable))
    return plain


def metrics(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the numbers of lm-eval's results by task, or by the tasks of a group: ``acc``, ``acc_stderr``, …"""
    return {
        task: {
            name.removesuffix(",none"): value
            for name, value in found.items()
            if "," in name and isinstance(value, (int, float))  # as in `acc,none`: by the filter that was applied
        }
        for task, found in results["results"].items()
    }
