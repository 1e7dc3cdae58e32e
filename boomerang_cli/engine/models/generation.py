"""Text that a model writes: greedily, so that it is the same each time, ended as its generation config ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from boomerang_cli.engine.quiet import quiet_transformers


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end a text: those of the generation config, else the tokenizer's end-of-text."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    ends = tokenizer.eos_token_id if configured is None else configured
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


@torch.inference_mode()
def generate_greedily(model: PreTrainedModel, input_ids: torch.Tensor, **settings: Any) -> torch.Tensor:
    """Return ``input_ids`` int64 ``[1, sequence]`` and what the model writes behind them.

    Args:
        settings: of ``generate``, beside those that make it greedy and one text.

    Raises:
        ValueError, TypeError: transformers does not take the generation config, or would need code of the Hub for it.
        RuntimeError: the device has too little memory.
    """
    with quiet_transformers():
        written: torch.Tensor = model.generate(  # type: ignore[operator]
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            do_sample=False,
            num_beams=1,
            num_return_sequences=1,
            use_cache=True,
            cache_implementation=None,  # one that grows: those of a fixed size are compiled, once a model
            return_dict_in_generate=False,
            **settings,
        )
    return written


def continue_greedily(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, input_ids: Sequence[int], *, new_tokens: int
) -> str:
    """Return what the model writes behind ``input_ids``, at most ``new_tokens`` tokens, without the token that ends it.

    The generation config's other settings hold, such as a repetition penalty; sampling and beams do not.

    Raises:
        ValueError, TypeError, RuntimeError: see :func:`generate_greedily`.
    """
    context = torch.tensor([list(input_ids)], device=model.device)
    ends = end_tokens(model, tokenizer)
    tokens = generate_greedily(
        model,
        context,
        max_new_tokens=new_tokens,
        eos_token_id=ends or None,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else next(iter(ends), None),
        tokenizer=tokenizer,  # for `stop_strings` of the generation config
    )
    written: list[int] = tokens[0, context.shape[1] :].tolist()
    if written and written[-1] in ends:  # it need not be a special token, which decoding leaves out
        written.pop()
    return str(tokenizer.decode(written, skip_special_tokens=True))
