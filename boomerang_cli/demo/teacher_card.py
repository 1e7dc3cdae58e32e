"""The model card of the built-in teacher: what it is, and every number of how it was made."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from boomerang_cli.demo.recipe import Recipe
from boomerang_cli.demo.text import HELD_OUT_ONE_IN

TEMPLATE = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags: [gpt_neox, code, python]
---
# The teacher of `boomerang demo`

A GPT-NeoX language model (Pythia's architecture) of {parameters:,} parameters that writes something like Python. It is
small enough to ship inside a package, and deep enough to be pruned, distilled and patched in minutes without a GPU. It
is good for nothing else.

| | |
|---|---|
| layers | {recipe.layers} |
| hidden size | {recipe.hidden_size} |
| attention heads | {recipe.heads} |
| vocabulary | {recipe.vocabulary_size}, byte-level BPE, `<|endoftext|>` between documents |
| context | {recipe.context_length} tokens |
| embedding and head | untied |
| weights | bfloat16, trained in float32 |

## Held-out loss
**{nats_per_token:.3f} nats a token, {bits_per_byte:.3f} bits a byte**, measured with these weights on all
{held_out_files} held-out files, {held_out_bytes:,} bytes, in sequences of {recipe.context_length} tokens side by side.

## Text
The source of the standard library of Python {python}, without its tests and generated tables: {training_files} files,
{training_bytes:,} bytes, {training_tokens:,} tokens. A file is held out when the SHA-256 of its path below the
library's folder, read as a number, is divisible by {held_out_one_in}. The tokenizer saw the training files only.

## Recipe
- {steps:,} steps of {recipe.batch_size} sequences of {recipe.context_length} tokens
- {tokens:,} tokens, {passes:.1f} passes over the text
- AdamW, betas {recipe.betas[0]} and {recipe.betas[1]}, weight decay {recipe.weight_decay} on matrices
- learning rate {recipe.learning_rate} after {recipe.warmup_steps} steps of warm-up, a cosine to zero
- gradients clipped at {recipe.max_grad_norm}, no dropout, Pythia's initialisation, seed {recipe.seed}
- {minutes:.0f} minutes on {machine}

Another one like it: `python -m boomerang_cli.demo.train --output teacher`

## Licence
The weights are under Apache-2.0. They were trained on the standard library's source, which is under the Python Software
Foundation License; what the model writes can repeat lines of it.
"""


@dataclass(frozen=True)
class Outcome:
    """What a training run had, did and reached."""

    parameters: int
    training_files: int
    training_bytes: int
    training_tokens: int
    held_out_files: int
    held_out_bytes: int
    nats_per_token: float
    bits_per_byte: float
    steps: int
    tokens: int
    minutes: float


def teacher_card(recipe: Recipe, outcome: Outcome) -> str:
    """Return the README.md of a teacher that this interpreter trained on this machine."""
    cores = "1 core" if recipe.threads == 1 else f"{recipe.threads} cores"
    return TEMPLATE.format(
        **vars(outcome),
        recipe=recipe,
        passes=outcome.tokens / outcome.training_tokens,
        held_out_one_in=HELD_OUT_ONE_IN,
        python=platform.python_version(),
        machine=f"{cores} of an {platform.machine().replace('_', '-')} CPU",
    )
