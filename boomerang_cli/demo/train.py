"""Trains the built-in teacher: `python -m boomerang_cli.demo.train --output DIR [--steps N] [--minutes N]`."""

from __future__ import annotations

import argparse
import copy
import math
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from transformers import GenerationConfig, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from boomerang_cli.demo.recipe import Recipe
from boomerang_cli.demo.spellings import add_older_spellings
from boomerang_cli.demo.teacher_card import Outcome, teacher_card
from boomerang_cli.demo.text import held_out_files, read_text, training_files
from boomerang_cli.demo.tokens import END_OF_TEXT_ID, batches, cut, pack, train_tokenizer
from boomerang_cli.engine.errors import BoomerangError, OutputError
from boomerang_cli.engine.quiet import keep_quiet

LOG_STEPS = 50
SAVE_SECONDS = 300.0
"""What a killed run costs."""


def train_teacher(output: Path, recipe: Recipe, training: Sequence[Path], held_out: Sequence[Path]) -> None:
    """Train a tokenizer and a model on the files ``training``, and write both with a model card to ``output``.

    Ctrl-C ends the training early and keeps what was learnt. Every five minutes the state is saved to
    ``<output>.partial``, which goes when ``output`` is complete.

    Raises:
        OutputError: ``output`` exists.
    """
    if output.exists():
        raise OutputError(f"{output} exists; give another folder with --output")
    torch.set_num_threads(recipe.threads)
    torch.set_flush_denormal(True)  # Adam's averages of rare tokens fade into denormal numbers, which are slow
    torch.manual_seed(recipe.seed)

    # 1. The text, as one row of tokens.
    documents = [read_text(path) for path in training]
    training_bytes = count_bytes(documents)
    tokenizer = train_tokenizer(documents, recipe.vocabulary_size, recipe.context_length)
    row = pack(documents, tokenizer)
    print(f"training text: {len(documents)} files, {training_bytes:,} bytes, {len(row):,} tokens")
    documents = [read_text(path) for path in held_out]
    held_out_bytes = count_bytes(documents)
    held_out_row = pack(documents, tokenizer)
    print(f"held-out text: {len(documents)} files, {held_out_bytes:,} bytes, {len(held_out_row):,} tokens")

    # 2. The model.
    model = make_model(recipe)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"model: {recipe.layers} layers, {parameters:,} parameters, {2 * parameters:,} bytes in bfloat16")

    # 3. AdamW. Weight decay keeps matrices small; biases and layer norms are few and must be free to grow.
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)

    # 4. Training. The schedule follows the steps or the clock, whichever is further on: should the machine become busy
    # half-way, the cosine still arrives at zero when the minutes are over.
    partial = output.with_name(f"{output.name}.partial")
    print(f"a step: {recipe.batch_size} sequences, {recipe.tokens_per_step:,} tokens", flush=True)
    started = saved = time.monotonic()
    step = tokens = 0
    with suppress(KeyboardInterrupt):
        for batch in batches(row, recipe.context_length, recipe.batch_size):
            seconds = time.monotonic() - started
            progress = max(step / recipe.steps, seconds / (60 * recipe.minutes))
            if progress >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(step, progress)
            loss = next_token_loss(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            tokens += batch[:, 1:].numel()
            if step % LOG_STEPS == 0:
                speed = tokens / (time.monotonic() - started)
                print(f"step {step:,} ({progress:.1%}): loss {loss.item():.3f}, {speed:,.0f} tokens/s", flush=True)
            if time.monotonic() - saved > SAVE_SECONDS:
                save(partial, model, tokenizer)
                saved = time.monotonic()
                print(f"held-out loss {held_out_loss(model, held_out_row, recipe):.4f}, saved to {partial}", flush=True)
    minutes = (time.monotonic() - started) / 60

    # 5. The held-out loss, of the weights as they are stored: rounded to bfloat16.
    model.bfloat16().float()  # type: ignore[no-untyped-call]
    nats_per_token = held_out_loss(model, held_out_row, recipe)
    bits_per_byte = nats_per_token / math.log(2) * (len(held_out_row) - 1) / held_out_bytes
    print(f"held-out loss: {nats_per_token:.4f} nats a token, {bits_per_byte:.4f} bits a byte")
    outcome = Outcome(
        parameters=parameters,
        training_files=len(training),
        training_bytes=training_bytes,
        training_tokens=len(row),
        held_out_files=len(held_out),
        held_out_bytes=held_out_bytes,
        nats_per_token=nats_per_token,
        bits_per_byte=bits_per_byte,
        steps=step,
        tokens=tokens,
        minutes=minutes,
    )
    save(output, model, tokenizer, teacher_card(recipe, outcome))
    shutil.rmtree(partial, ignore_errors=True)
    print(f"{step:,} steps, {tokens:,} tokens in {minutes:.1f} minutes; saved to {output}")


def count_bytes(documents: Sequence[str]) -> int:
    return sum(len(document.encode()) for document in documents)


def make_model(recipe: Recipe) -> GPTNeoXForCausalLM:
    """Return a float32 GPT-NeoX, initialised as Pythia was: small_init, and wang_init where a layer's result is added.

    With hidden size h and L layers, small_init is a deviation of sqrt(2 / 5h) (arXiv 1910.05895), wang_init one of
    2 / (L sqrt(h)) (GPT-NeoX), which keeps the sum of what the layers add at one size for any depth.
    """
    config = GPTNeoXConfig(
        vocab_size=recipe.vocabulary_size,
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=4 * recipe.hidden_size,
        max_position_embeddings=recipe.context_length,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
        use_parallel_residual=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        initializer_range=math.sqrt(2 / (5 * recipe.hidden_size)),
        tie_word_embeddings=False,
        bos_token_id=END_OF_TEXT_ID,
        eos_token_id=END_OF_TEXT_ID,
    )
    model = GPTNeoXForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith(("attention.dense.weight", "mlp.dense_4h_to_h.weight")):
            nn.init.normal_(parameter, std=2 / (recipe.layers * math.sqrt(recipe.hidden_size)))
    return model


def next_token_loss(model: GPTNeoXForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy in nats of each sequence's tokens but the first."""
    logits = model(batch[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


@torch.inference_mode()
def held_out_loss(model: GPTNeoXForCausalLM, row: torch.Tensor, recipe: Recipe) -> float:
    """Return the mean cross entropy in nats over all sequences of the row."""
    sequences = cut(row, recipe.context_length)
    sums = [next_token_loss(model, batch).item() * len(batch) for batch in torch.split(sequences, recipe.batch_size)]
    return sum(sums) / len(sequences)


def save(folder: Path, model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, card: str | None = None) -> None:
    """Write everything beside ``folder`` and rename it once it is complete; what ``folder`` held is replaced."""
    complete = folder.with_name(f"{folder.name}.new")
    stored = copy.deepcopy(model).bfloat16()
    stored.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=END_OF_TEXT_ID,
        eos_token_id=END_OF_TEXT_ID,
        pad_token_id=END_OF_TEXT_ID,  # else each generate() warns that it chose one
    )
    stored.save_pretrained(complete)
    tokenizer.save_pretrained(complete)
    add_older_spellings(complete)
    if card:
        (complete / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    complete.rename(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m boomerang_cli.demo.train", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write; it must not exist")
    parser.add_argument("--steps", type=int, help="end after so many steps")
    parser.add_argument("--minutes", type=float, help="end after so many minutes (75 if neither is given)")
    parser.add_argument("--threads", type=int, default=1, help="CPU cores to use (1)")
    chosen = parser.parse_args(arguments)
    minutes = chosen.minutes or (math.inf if chosen.steps else 75)
    recipe = Recipe(steps=chosen.steps or math.inf, minutes=minutes, threads=chosen.threads)
    keep_quiet("transformers")
    try:
        train_teacher(chosen.output, recipe, training_files(), held_out_files())
    except BoomerangError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
