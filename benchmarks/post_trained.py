"""Ways to the sizes between of a post-trained teacher, compared on held-out answers: KL to the teacher, perplexity.

    two-phase     distilled from the variant on text, then on answers
    weight delta  the variant's layers + what two-phase distillation added to the base model's student; no training
    cross-patch   the variant's layers put into the base model's student
    text          distilled from the variant on text alone, in as many steps
    undistilled   the variant's layers alone

Each distillation sees as many tokens, in the same order where the text is the same. What is done already is kept, so
that a run goes on where it stopped.

    python benchmarks/chat_variant.py --model MODEL --stories train.txt --held-out valid.txt --output variant
    python benchmarks/post_trained.py --variant variant --text train.txt
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from chat_variant import IGNORED, batch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from boomerang_cli import build_intermediate_model, distill, init_student
from boomerang_cli.engine.pair.pair import open_pair

ROWS_AT_ONCE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", type=Path, required=True, help="the folder that chat_variant.py wrote")
    parser.add_argument("--text", required=True)
    parser.add_argument("--steps", type=int, default=300, help="of each distillation, both phases together")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--order", choices=["first", "last"], default="last")
    parser.add_argument("--cosine-weight", type=float, default=10.0)  # of the paper, for such models
    parser.add_argument("--learning-rate", type=float, default=2e-3)  # small models learn faster
    given = parser.parse_args()
    students = make_students(given)
    rows = [json.loads(line) for line in (given.variant / "held-out.jsonl").read_text(encoding="utf-8").splitlines()]
    chat = given.variant / "chat"
    curves = {way: curve(student, chat, rows, given.order) for way, student in students.items()}
    (given.variant / "results.json").write_text(json.dumps(curves, indent=1), encoding="utf-8")
    print_table("KL to the teacher, nats a token of the answers", curves, 0)
    print_table("perplexity of the answers", curves, 1)


def make_students(given: argparse.Namespace) -> dict[str, Path]:
    """Return the five students, those that are there already as they are."""
    folder: Path = given.variant
    chat, base = folder / "chat", folder / "base"
    made = {way: folder / way for way in ("undistilled", "base-init", "two-phase", "base-student", "text", "delta")}

    def once(way: str, make: Callable[[Path], Any]) -> None:
        if not made[way].exists():
            print(f"making {way}", flush=True)
            make(made[way])

    common: dict[str, Any] = {
        "data": [given.text],
        "batch_size": given.batch_size,
        "sequence_length": 256,
        "repeat": True,
        "cosine_weight": given.cosine_weight,
        "learning_rate": given.learning_rate,
        "micro_batch_size": 4,
    }
    answers = {
        "sft_data": [str(folder / "train.jsonl")],
        "sft_steps": given.steps - given.steps // 2,
        "sft_batch_size": given.batch_size,
        "sft_sequence_length": 256,
    }
    half = {"steps": given.steps // 2, **answers, **common}
    once("undistilled", lambda path: init_student(chat, output=path))
    once("base-init", lambda path: init_student(base, output=path))
    once("text", lambda path: distill(made["undistilled"], output=path, steps=given.steps, **common))
    once("two-phase", lambda path: distill(made["undistilled"], output=path, **half))
    once("base-student", lambda path: distill(made["base-init"], output=path, **half))
    once("delta", lambda path: init_student(chat, delta=made["base-student"], base=base, output=path))
    return {
        "two-phase": made["two-phase"],
        "weight delta": made["delta"],
        "cross-patch": made["base-student"],
        "text": made["text"],
        "undistilled": made["undistilled"],
    }


def curve(student: Path, chat: Path, rows: list[Any], order: str) -> list[tuple[float, float]]:
    """Return, for k = 0 to n, the KL of the teacher to the size and the size's perplexity, on the answers' tokens."""
    tokenizer = AutoTokenizer.from_pretrained(chat)
    batches = [batch(tokenizer, rows[start : start + ROWS_AT_ONCE]) for start in range(0, len(rows), ROWS_AT_ONCE)]
    teacher = answer_log_probabilities(AutoModelForCausalLM.from_pretrained(chat, dtype=torch.float32), batches)
    answers = torch.cat([labels[:, 1:][labels[:, 1:] != IGNORED] for _, labels in batches])
    points = []
    for k in range(len(open_pair(student, chat).layer_map.patchable) + 1):
        model = build_intermediate_model(str(chat), str(student), k, order == "first", torch.float32)
        ours = answer_log_probabilities(model, batches)
        kl = F.kl_div(ours, teacher, log_target=True, reduction="sum").item() / len(answers)
        points.append((kl, math.exp(F.nll_loss(ours, answers).item())))
    return points


@torch.no_grad()
def answer_log_probabilities(model: Any, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Return those of the answers' tokens, float64 ``[tokens, vocabulary]``."""
    counted = [(input_ids, labels[:, 1:] != IGNORED) for input_ids, labels in batches]
    logits = [model(input_ids=input_ids).logits[:, :-1][mask] for input_ids, mask in counted]
    return torch.cat(logits).double().log_softmax(-1)


def print_table(title: str, curves: dict[str, list[tuple[float, float]]], column: int) -> None:
    print(f"\n{title}, k = 0 to n")
    for way, points in curves.items():
        print(f"{way:>13}" + "".join(f"{point[column]:8.3f}" for point in points))


if __name__ == "__main__":
    main()
