"""What ``help()`` says of the package's functions: every parameter with its type and default, and errors that exist."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import boomerang_cli
from boomerang_cli.engine import errors
from boomerang_cli.engine.demo import demo
from boomerang_cli.engine.distill import distill
from boomerang_cli.engine.distillation.interrupts import TrainingInterrupted
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.recipes import RECIPES

FUNCTIONS = [
    getattr(boomerang_cli, name) for name in boomerang_cli.__all__ if name not in ("__version__", "BoomerangError")
]
ALIASES = {
    "ByteProgress": "Callable[[int, int], None]",
    "StageProgress": "Callable[[str, int, int], None]",
    "ProgressCallback": "Callable[[TrainingProgress], None]",
    "ModelCallback": "Callable[[PushResult], None]",
    "Alignment": '"cosine" | "relative"',
    "Schedule": '"constant" | "rising" | "falling"',
    "Sampling": '"order" | "random" | "mixed"',
}
"""What a reader of help would have to look up, in full."""
CALLABLE = pytest.mark.parametrize("function", [*FUNCTIONS, demo], ids=lambda function: function.__name__)


def described(function: Callable[..., Any]) -> dict[str, str]:
    """What stands in brackets behind each parameter's name in a docstring."""
    arguments = inspect.getdoc(function).split("\nArgs:\n")[1].split("\n\n")[0]
    heads = re.findall(r"^    (\w[\w, ]*) \((.+?)\): ", re.sub(r"\n {8}", " ", arguments), re.MULTILINE)
    return {name: kind for names, kind in heads for name in names.split(", ")}


def expected(parameter: inspect.Parameter) -> str:
    kind, default = parameter.annotation, parameter.default
    if default is None:
        kind = kind.removesuffix(" | None")
    kind = ALIASES.get(kind, kind)
    if default is inspect.Parameter.empty:
        return kind
    if default is None or callable(default):
        return f"{kind}, optional"
    return f"{kind}, default {default!r}".replace("'", '"')


@CALLABLE
def test_help_tells_type_and_default_of_every_parameter(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    assert described(function) == {name: expected(parameter) for name, parameter in parameters.items()}


@CALLABLE
def test_errors_that_help_names_exist(function: Callable[..., Any]) -> None:
    raises = inspect.getdoc(function).split("\nRaises:\n")[1]
    named = [name for names in re.findall(r"^    (\w[\w, ]*): ", raises, re.MULTILINE) for name in names.split(", ")]
    known = {**vars(errors), "TrainingInterrupted": TrainingInterrupted}
    assert named
    assert all(issubclass(known[name], (errors.BoomerangError, KeyboardInterrupt)) for name in named)


@CALLABLE
def test_help_sends_nobody_to_another_page(function: Callable[..., Any]) -> None:
    assert not re.search(r"\b[Ss]ee ``|as in ``|:func:", inspect.getdoc(function))


@pytest.mark.parametrize(
    "name", ["steps", "learning_rate", "warmup_ratio", "weight_decay", "kl_weight", "cosine_weight"]
)
def test_help_of_distill_tells_the_values_of_each_recipe(name: str) -> None:
    told = re.search(
        rf"^    {name} \(.*?None is (\S+?)(?:; (.*?))?\.$", inspect.getdoc(distill), re.MULTILINE | re.DOTALL
    )
    others = {recipe: float(values[name]) for recipe, values in RECIPES.items() if name in values}
    assert float(told[1]) == getattr(Recipe(), name)
    assert {recipe: float(value) for recipe, value in re.findall(r"(\w+) ([\d.]+)", told[2] or "")} == others
