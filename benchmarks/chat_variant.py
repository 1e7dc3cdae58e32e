"""Makes a "chat" model of a small pretrained one: questions and answers from stories, a template, some fine-tuning.

A post-trained model of one's own, to try the commands for such models on in minutes and on two cores. Writes rows of
``messages`` (``train.jsonl``, ``held-out.jsonl``), ``base`` (the model as it was, with the template) and ``chat``.

    python benchmarks/chat_variant.py --model MODEL --stories train.txt --held-out valid.txt --output variant
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint

TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'assistant' %}Assistant:"
    "{% generation %} {{ message.content + eos_token }}{% endgeneration %}"
    "{% else %}{{ bos_token + 'User: ' + message.content + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
IGNORED = -100
LEARNING_RATE, WARMUP_STEPS, BATCH_SIZE = 1e-3, 20, 16

Row = dict[str, list[dict[str, str]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--stories", type=Path, required=True, help="<|endoftext|> between two")
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    given.output.mkdir(parents=True)
    rows = list(questions(given.stories))
    held_out = list(questions(given.held_out))[:300]
    write_rows(given.output / "train.jsonl", rows)
    write_rows(given.output / "held-out.jsonl", held_out)
    folder = open_checkpoint(given.model).folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    save(model, tokenizer, given.output / "base")
    print(f"{len(rows)} rows; answers before: {answer_loss(model, tokenizer, held_out):.3f} nats a token")
    fine_tune(model, tokenizer, rows, given.steps)
    print(f"answers after: {answer_loss(model, tokenizer, held_out):.3f} nats a token")
    save(model, tokenizer, given.output / "chat")


def questions(path: Path) -> Iterator[Row]:
    """Yield three questions a story: go on, write with three words, who is it about."""
    for story in path.read_text(encoding="utf-8").split("<|endoftext|>"):
        sentences = re.findall(r"[^.!?]+[.!?]+\"?", " ".join(story.split()))
        if len(sentences) < 6:
            continue
        sentences = [sentence.strip() for sentence in sentences]
        beginning = " ".join(sentences[:3])
        yield row(f"Continue: {beginning}", " ".join(sentences[3:6]))
        if len(words := distinct_words(beginning)) == 3:
            yield row(f"Write a story with the words {words[0]}, {words[1]} and {words[2]}.", beginning)
        if name := re.search(r"\bnamed ([A-Z]\w+)", beginning):
            yield row(f"Who is it about? {beginning}", f"It is a story about {name[1]}.")


def distinct_words(text: str) -> list[str]:
    """Return the three longest lower-case words, in the order of the text."""
    found = list(dict.fromkeys(re.findall(r"\b[a-z]{4,}\b", text)))
    return sorted(sorted(found, key=len)[-3:], key=found.index)


def row(question: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write_rows(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fine_tune(model: Any, tokenizer: PreTrainedTokenizerBase, rows: list[Row], steps: int) -> None:
    """Train on the answers' tokens alone; the same rows in the same order each time."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARMUP_STEPS, (1 + math.cos(math.pi * step / steps)) / 2)
    )
    draw, started = random.Random(0), time.monotonic()
    model.train()
    for step in range(steps):
        input_ids, labels = batch(tokenizer, draw.sample(rows, BATCH_SIZE))
        loss = cross_entropy(model, input_ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: {loss.item():.3f}, {time.monotonic() - started:.0f} s", flush=True)
    model.eval()


@torch.no_grad()
def answer_loss(model: Any, tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> float:
    """Return the mean cross entropy of the answers' tokens, in nats."""
    total, count = 0.0, 0
    for start in range(0, len(rows), BATCH_SIZE):
        input_ids, labels = batch(tokenizer, rows[start : start + BATCH_SIZE])
        tokens = int((labels[:, 1:] != IGNORED).sum())
        total += cross_entropy(model, input_ids, labels).item() * tokens
        count += tokens
    return total / count


def cross_entropy(model: Any, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=input_ids).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


def batch(tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``input_ids`` and ``labels`` ``[rows, longest]``, padded on the right, which causal attention never sees.

    ``labels`` are the tokens of the answers, :data:`IGNORED` elsewhere.
    """
    made: Any = tokenizer.apply_chat_template(
        [each["messages"] for each in rows], return_dict=True, return_assistant_tokens_mask=True
    )
    longest = max(map(len, made["input_ids"]))
    pad = tokenizer.eos_token_id
    input_ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in made["input_ids"]])
    mask = torch.tensor([counted + [0] * (longest - len(counted)) for counted in made["assistant_masks"]])
    return input_ids, input_ids.where(mask.bool(), IGNORED)


if __name__ == "__main__":
    main()
