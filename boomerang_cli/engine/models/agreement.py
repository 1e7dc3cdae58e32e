"""A model run in parts held against the model run whole, on a few tokens, before any work rests on it.

Families differ in what their code does around layers and after the head. What is not known here shows in the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from boomerang_cli.engine.errors import BoomerangError, UnsupportedModelError
from boomerang_cli.engine.models.head import Head
from boomerang_cli.engine.models.hidden_states import hidden_states_at

_TOKENS = 8
_TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-6}
_HALF_TOLERANCE = 2e-2
"""How far logits may lie apart, as a part of the largest; of half precision, some units in its last place."""


@torch.no_grad()
def check_parts(
    model: PreTrainedModel, depth: int, name: str, run: Callable[[Callable[[], Tensor]], Tensor] = lambda parts: parts()
) -> None:
    """Check that a model's body and head, as distillation runs them, give the whole model's logits.

    Args:
        name: of the model, for the error.
        run: calls what reads the head's weight, which one that is split over processes has whole for a while only.

    Raises:
        UnsupportedModelError: they do not, or cannot be run like that.
    """
    with refusing(model, name, "distilled"):
        input_ids = tokens_for(model)

        def parts() -> Tensor:
            states = hidden_states_at(model, input_ids, None, range(depth), depth)
            for index, state in sorted(states.items()):
                if state.shape[:2] != input_ids.shape:
                    raise UnsupportedModelError(f"hidden states {index} of {_TOKENS} tokens are {list(state.shape)}")
            return Head.of(model).logits(states[-1])

        check_logits(run(parts), whole_logits(model, input_ids))


def tokens_for(model: PreTrainedModel) -> Tensor:
    """Return a few tokens of a model's vocabulary, int64 ``[1, tokens]``, no two alike where it has so many."""
    embedding: Any = model.get_input_embeddings()
    vocabulary = len(embedding.weight)
    return (torch.arange(1, _TOKENS + 1, device=model.device) * 7919 % vocabulary).unsqueeze(0)


def whole_logits(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=input_ids, use_cache=False).logits
    return logits


def check_logits(found: Tensor, whole: Tensor) -> None:
    """Compare logits with those of the whole model, ``[batch, sequence, vocabulary]`` both (error as below)."""
    if found.shape != whole.shape:
        raise UnsupportedModelError(
            f"the whole model gives {whole.shape[-1]} logits a token, its head {found.shape[-1]}"
        )
    largest, differs = whole.abs().max().item(), (found - whole).abs().max().item()
    if not differs <= _TOLERANCES.get(whole.dtype, _HALF_TOLERANCE) * largest:
        raise UnsupportedModelError(
            f"its logits differ from the whole model's, of up to {largest:.3g}, by {differs:.3g}"
        )


@contextmanager
def refusing(model: PreTrainedModel, name: str, done: str) -> Iterator[None]:
    """Say of whatever goes wrong within that models of the type cannot be ``done`` (distilled, scored).

    Raises:
        UnsupportedModelError: one line, with what went wrong.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a class raises for calls that it does not expect
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        said = reason if isinstance(error, BoomerangError) else f"its layers cannot be run apart: {reason[:120]}"
        raise UnsupportedModelError(
            f"{name}: models of {model.config.model_type} cannot be {done}, only patched: {said}"
        ) from None
