"""Named recipes: what a training takes where nothing else is said; ``paper`` is ``Recipe`` as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boomerang_cli.engine.checkpoint.files import texts_of
from boomerang_cli.engine.checkpoint.hub_address import named_by_address
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.errors import TrainingError, flag_of

RECIPES: Mapping[str, Mapping[str, Any]] = {
    # The published students' (arXiv 2510.05064).
    "paper": {},
    # For post-trained teachers (arXiv 2608.22854), the sizes of its 4B student: half a billion tokens of text, as many
    # of conversations. The sum of the losses' weights is the one of its sections on losses, cosine 10.
    "adapt": {
        "steps": 240,
        "batch_size": 2048,
        "sequence_length": 1024,
        "sft_data": ("nvidia/Llama-Nemotron-Post-Training-Dataset:SFT:math",),
        "sft_steps": 293,
        "sft_batch_size": 4096,
        "sft_sequence_length": 1024,
        "cosine_weight": 10.0,
    },
    # For the models in between: half of the first steps train the student as a part of one, fewer and fewer of those
    # that follow, so that it ends alone; its states are to have the length of the teacher's, whose layers they meet
    # there. Chosen by benchmarks/curve.py (CONTRIBUTING.md has its table): the weight brings most, to student and sizes
    # in between, and twice of it little more; at this weight the steps through a part of one give up some of the
    # student for the sizes near the teacher, and the same area.
    "between": {
        "patched_share": 0.5,
        "patched_schedule": "falling",
        "alignment": "relative",
        "cosine_weight": 50.0,
    },
}


_SEVERAL = ("data", "eval_data", "sft_data", "sft_columns")


def recipe_of(name: str, **values: Any) -> Recipe:
    """Return the recipe of that name, with those of ``values`` in the place of its own that are not None.

    Where the recipe has no conversations, their batches are like those of text.

    Raises:
        TrainingError: there is no such recipe, or nothing can be trained with it.
    """
    if name not in RECIPES:
        raise TrainingError(f"--recipe {name} is unknown: give one of {', '.join(RECIPES)}", usage=True)
    given = {key: _named(value) if key in _SEVERAL else value for key, value in values.items() if value is not None}
    chosen = {**RECIPES[name], **given}
    if chosen.get("steps") == 0 and "data" in given and chosen.get("sft_data"):
        raise TrainingError("--data with --steps 0: nothing would be trained on it, leave one of them out", usage=True)
    for steps, data in (("steps", "data"), ("sft_steps", "sft_data")):
        if chosen.get(steps) == 0 and data not in given:
            chosen[data] = ()
    if not chosen.get("sft_data"):
        _check_without_conversations(given)
    text = {f"sft_{key}": chosen.get(key, getattr(Recipe, key)) for key in ("batch_size", "sequence_length")}
    return Recipe(**{**text, **chosen})


def _check_without_conversations(given: Mapping[str, Any]) -> None:
    needless = [key for key, value in given.items() if key.startswith("sft_") and (key == "sft_kl" or value != 0)]
    if needless:
        flag = "--sft-no-kl" if needless[0] == "sft_kl" else flag_of(needless[0])
        raise TrainingError(f"{flag} without --sft-data: name the conversations to train on", usage=True)


def default_of(key: str) -> str:
    """Return what each recipe has for ``key``, as help shows it: ``500; adapt: 240``."""
    first, *others = ((name, values.get(key, getattr(Recipe, key))) for name, values in RECIPES.items())
    return "; ".join([f"{first[1]}", *(f"{name}: {value}" for name, value in others if value != first[1])])


def _named(value: Any) -> tuple[str, ...]:
    """Return texts by their names, also where the address of a page on the Hub is given."""
    return tuple(named_by_address(each, "datasets/") for each in texts_of(value))
