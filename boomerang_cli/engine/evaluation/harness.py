"""Tasks of lm-eval, the evaluation harness, on models in memory (extra ``eval``)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.asked import TaskSettings
from boomerang_cli.engine.models.generation import end_tokens
from boomerang_cli.engine.quiet import keep_quiet, quiet_transformers
from boomerang_cli.engine.waiting import waiting

_OF_LM_EVAL = ("until", "max_gen_toks", "max_tokens", "max_completion_tokens")
"""Arguments of generation that lm-eval takes beside those of transformers."""


class Harness:
    """Runs tasks.

    Raises:
        ScoringError: lm-eval is not installed, or does not know one of the tasks or generation arguments.
    """

    def __init__(self, settings: TaskSettings) -> None:
        try:
            from lm_eval.tasks import TaskManager
        except ImportError:
            raise ScoringError("--tasks needs lm-eval: `pip install 'boomerang-cli[eval]'`") from None
        keep_quiet("lm_eval")
        self.settings = settings
        include = None if settings.include_path is None else str(settings.include_path)
        self._generation = read_gen_kwargs(settings.gen_kwargs)
        self._manager = TaskManager(include_path=include)
        for task in settings.tasks:
            if task not in self._manager.all_tasks:
                near = get_close_matches(task, self._manager.all_tasks, n=3)
                hint = f"did you mean {', '.join(near)}" if near else "`lm-eval ls tasks` lists them"
                raise ScoringError(f"--tasks {task} is no task of lm-eval: {hint}, or give --include-path for your own")

    def check_reachable(self) -> None:
        """Load each task once, with its dataset, so that nothing is scored for hours before one is out of reach.

        Raises:
            ScoringError: names the task, and why it cannot be loaded.
        """
        keep_quiet("datasets", "huggingface_hub")
        load = getattr(self._manager, "load", None) or self._manager.load_task_or_group  # as earlier versions call it
        for task in self.settings.tasks:
            with waiting(f"loading the task {task} and its dataset"), _told(task):
                load(task)

    def run(self, task: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Return lm-eval's results for one task, as its own command would write them, without the samples.

        Raises:
            ScoringError: the task failed, such as for want of its dataset.
        """
        import lm_eval

        asked = self.settings
        with _told(task), quiet_transformers(), _silence(), _alone():
            results = lm_eval.simple_evaluate(
                model=_wrapped(model, tokenizer, asked.batch_size),
                tasks=[task],
                num_fewshot=asked.num_fewshot,
                limit=asked.limit,
                apply_chat_template=asked.apply_chat_template,
                fewshot_as_multiturn=asked.multiturn,
                system_instruction=asked.system_instruction,
                gen_kwargs=dict(self._generation) or None,
                task_manager=self._manager,
                log_samples=False,
                verbosity="ERROR",
            )
        return _as_json(results)


def read_gen_kwargs(given: str | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the arguments of generation: lm-eval's own, and those that transformers' ``generate`` takes.

    Raises:
        ScoringError: neither ``name=value,…`` nor a JSON object, or a name that there is not.
    """
    from lm_eval.utils import simple_parse_args_string

    known = {*vars(GenerationConfig.from_dict({})), *_OF_LM_EVAL}
    if isinstance(given, str):
        if given.lstrip().startswith("{"):
            given = _json_object(given)
        elif other := [part for part in given.split(",") if "=" not in part]:
            raise ScoringError(
                f"--gen-kwargs {given}: {other[0]!r} is no name=value: give them as temperature=0.7,top_p=0.8, "
                "and values with a comma as a JSON object",
                usage=True,
            )
        else:
            given = dict(simple_parse_args_string(given))
    for name in given or {}:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"did you mean {', '.join(near)}" if near else f"there are {', '.join(_OF_LM_EVAL)}, temperature, …"
            raise ScoringError(f"--gen-kwargs {name} is no argument of generation: {hint}", usage=True)
    return given or {}


def _json_object(text: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise ScoringError(f"--gen-kwargs {text} is no JSON object: {error}", usage=True) from None
    return content


def _wrapped(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int | str) -> Any:
    """Return lm-eval's own model around one: a fresh one each time, as it keeps what it found out.

    ``generate`` stops at every token that the model's generation config ends with; lm-eval takes only the tokenizer's
    end-of-text out of an answer, so any other is told as that.
    """
    from lm_eval.models.huggingface import HFLM

    wrapped: Any = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=str(model.device))
    generate, ends = wrapped._model_generate, torch.tensor(end_tokens(model, tokenizer), device=model.device)

    def generate_and_end(context: Tensor, **settings: Any) -> Tensor:
        tokens: Tensor = generate(context=context, tokenizer=tokenizer, **settings)
        answer = tokens[:, context.shape[1] :]
        answer[torch.isin(answer, ends).cumsum(1) > 0] = wrapped.eot_token_id
        return tokens

    wrapped._model_generate = generate_and_end
    return wrapped


@contextmanager
def _told(task: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # tasks are programs of their own: they raise whatever there is
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ScoringError(f"--tasks {task} failed: {reason}") from error


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


@contextmanager
def _alone() -> Iterator[None]:
    """Have lm-eval take this process for the only one: of those of torchrun, it gives results in the first alone."""
    local_rank = os.environ.pop("LOCAL_RANK", None)
    try:
        yield
    finally:
        if local_rank is not None:
            os.environ["LOCAL_RANK"] = local_rank


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
