"""The errors of the engine: one tree, so that the command line catches them in one place.

Each message is one line without a full stop that names what is wrong, the values, and the way out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable


class BoomerangError(Exception):
    """Anything that the engine refuses or fails to do.

    Attributes:
        usage: the arguments alone are wrong, whatever the models: a value that means nothing, or some that exclude one
            another.
    """

    def __init__(self, message: str, *, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage


class ModelNotFoundError(BoomerangError):
    """A model argument names no folder, no repository, or nothing that can be read."""


class HubError(BoomerangError):
    """The Hub refuses, fails, or is out of reach."""


class CheckpointError(BoomerangError):
    """A model's files are incomplete, corrupt, or contradict each other."""


class UnsupportedModelError(BoomerangError):
    """A model that layers cannot be moved in: an unknown family, quantised weights, index-dependent maths."""


class PairError(BoomerangError):
    """A student and a teacher that do not belong together."""


class SelectionError(BoomerangError):
    """Layers, blocks, an order or a size that the pair does not have."""


class OutputError(BoomerangError):
    """The output exists, or cannot be written."""


class DataError(BoomerangError):
    """Training or evaluation text that is missing, unreadable, or too little."""


class TrainingError(BoomerangError):
    """A distillation that cannot start or cannot go on."""


class ProcessError(BoomerangError):
    """Processes that cannot be started together, or one of which was lost."""


class ScoringError(BoomerangError):
    """Models that cannot be scored: too little memory, an unknown task, or a search that would take too long."""


def check_least(least: float, error: type[BoomerangError], **given: float | None) -> None:
    """Refuse numbers that mean nothing, whatever the models.

    Args:
        given: by the parameters' names, which are those of the flags; None is not given.

    Raises:
        BoomerangError: of the class ``error``, as wrong usage.
    """
    for name, value in given.items():
        if value is not None and not least <= value < math.inf:
            raise error(f"{flag_of(name)} {value} must be {least:g} or more", usage=True)


def check_above_zero(error: type[BoomerangError], **given: float | None) -> None:
    """Refuse numbers that are not (see :func:`check_least`)."""
    for name, value in given.items():
        if value is not None and not 0 < value < math.inf:
            raise error(f"{flag_of(name)} {value} must be above 0", usage=True)


def flag_of(parameter: str) -> str:
    """Return ``--save-every`` for ``save_every``."""
    return f"--{parameter.replace('_', '-')}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``: did you mean first?`` for the end of an error's line, empty where nothing known is like the word."""
    from difflib import get_close_matches

    names = {name.lower(): name for name in known}
    begun = [name for name in names if word and name.startswith(word.lower())]
    found = begun[:1] or get_close_matches(word.lower(), names, n=1)
    return f": did you mean {names[found[0]]}?" if found else ""
