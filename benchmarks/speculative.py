"""The acceptance that `sweep` predicts, beside that of transformers' assisted generation with each size as the draft.

Prediction and measurement are of one pair and one held-out text. Each size drafts for the teacher (`assistant_model=`),
which goes on from the beginnings of windows of that text by sampling at temperature 1, in drafts of a fixed number of
tokens that no confidence cuts short. Of a draft, the tokens up to the first that is rejected were tried; the measured
acceptance is the share of these that was accepted, with its standard error over prompts. What is sampled is less sure
than what people write, so `sweep`'s measure of it stands between the two. So many tokens a pass of the teacher are what
acceptance is for: by arXiv 2211.17192, equation 1, from the predicted one, and counted.

    boomerang demo && python benchmarks/speculative.py
    python benchmarks/speculative.py --student student --data valid.txt --drafted 8
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.candidate_generator import AssistedCandidateGenerator

from boomerang_cli.engine.distillation.data import find_sources
from boomerang_cli.engine.evaluation.scoring import Scorer, summarise
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.evaluation.windows import Windows, read_windows
from boomerang_cli.engine.models.compose import LoadedPair, compose, load_pair
from boomerang_cli.engine.models.head import IGNORED_LABEL
from boomerang_cli.engine.models.loading import load_tokenizer
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.quiet import quiet_transformers
from boomerang_cli.engine.sweep import sweep

STUDENT = "boomerang-demo/student"


@dataclass(frozen=True)
class Drafts:
    """What became of the drafts of one prompt.

    Attributes:
        tried: drafted tokens up to the first that was rejected, or all of a draft.
        passes: of the teacher, each of which adds a token of its own to the accepted ones.
    """

    accepted: int = 0
    tried: int = 0
    passes: int = 0

    def after(self, drafted: int, accepted: int) -> Drafts:
        return Drafts(self.accepted + accepted, self.tried + min(accepted + 1, drafted), self.passes + 1)


@contextmanager
def counting() -> Iterator[list[Drafts]]:
    """Yield a list of one element: what becomes of all drafts within."""
    counted, update = [Drafts()], AssistedCandidateGenerator.update_candidate_strategy

    def count(self: Any, input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> None:
        if drafted := scores.shape[1] - 1:  # the teacher's own token is scored, too; before the end none is drafted
            counted[0] = counted[0].after(drafted, int(num_matches))
        update(self, input_ids, scores, num_matches)

    with patch.object(AssistedCandidateGenerator, "update_candidate_strategy", count):
        yield counted


def speculate(
    teacher: PreTrainedModel, draft: PreTrainedModel, prompt: torch.Tensor, drafted: int, new_tokens: int
) -> tuple[Drafts, torch.Tensor]:
    """Sample ``new_tokens`` tokens behind ``prompt``, int64 ``[1, tokens]``; return both with what became of drafts."""
    draft.generation_config = GenerationConfig(
        num_assistant_tokens=drafted, num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0.0
    )
    # No token ends a text: what was accepted behind it would not be counted. And nothing is cut off what is sampled.
    teacher.generation_config = GenerationConfig(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0)
    with counting() as counted, torch.inference_mode(), quiet_transformers():
        generate: Any = teacher.generate
        mask = torch.ones_like(prompt)
        sampled = generate(prompt, attention_mask=mask, max_new_tokens=new_tokens, assistant_model=draft)
    return counted[0], sampled


def acceptance_of(drafts: list[Drafts]) -> tuple[float, float]:
    """Return the share of tried tokens that was accepted, and its standard error: a ratio of sums over prompts."""
    tried, count = sum(each.tried for each in drafts), len(drafts)
    share = sum(each.accepted for each in drafts) / tried
    squares = math.fsum((each.accepted - share * each.tried) ** 2 for each in drafts)
    return share, math.sqrt(squares * count / max(1, count - 1)) / tried


def acceptance_on(sampled: torch.Tensor, prompt_tokens: int, blocks: tuple[int, ...], loaded: LoadedPair) -> float:
    """Return what ``sweep`` would say of the tokens behind the prompts of ``sampled``, int64 ``[prompts, tokens]``."""
    labels = sampled[:, 1:].clone()
    labels[:, : prompt_tokens - 1] = IGNORED_LABEL
    windows, variant = Windows(sampled[:, :-1], labels), Variant(blocks)
    sums = Scorer(loaded).score([variant], windows, range(len(windows)))[variant]
    return summarise(sums, windows.tokens).acceptance


def tokens_a_pass(acceptance: float, drafted: int) -> float:
    """Return the mean number of tokens that a pass of the teacher yields (arXiv 2211.17192, equation 1)."""
    return math.fsum(acceptance**power for power in range(drafted + 1))


def show(loaded: LoadedPair, row: Any, prompts: torch.Tensor, options: argparse.Namespace) -> float:
    """Print the line of a size, and return how far the measured acceptance is from the predicted one."""
    draft = compose(loaded, loaded.pair.layer_map.sources(row.patched_blocks))
    torch.manual_seed(options.seed)
    found = [
        speculate(loaded.models["teacher"], draft, prompt[None], options.drafted, options.new_tokens)
        for prompt in prompts
    ]
    drafts, sampled = [each for each, _ in found], torch.cat([each for _, each in found])
    (share, error), passes = acceptance_of(drafts), sum(each.passes for each in drafts)
    yielded = sum(each.accepted for each in drafts) / passes + 1
    of_sampled = acceptance_on(sampled, options.prompt_tokens, row.patched_blocks, loaded)
    cells = [row.layers, row.depth, f"{row.top1:.3f}", f"{row.acceptance:.3f}", f"{of_sampled:.3f}"]
    cells += [f"{share:.3f} ± {error:.3f}"]
    cells += [f"{tokens_a_pass(row.acceptance, options.drafted):.2f}", f"{yielded:.2f}"]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return float(abs(share - row.acceptance))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default=STUDENT)
    parser.add_argument("--data", default="boomerang-demo/text/held-out.txt", help="that nothing was trained on")
    parser.add_argument("--order", default="last")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--drafted", type=int, default=4, help="tokens a draft")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.student == STUDENT and not Path(STUDENT).exists():
        sys.exit(f"there is no {STUDENT}: run `boomerang demo`, or give --student and --data")
    length, text = options.prompt_tokens + options.new_tokens, [options.data]
    with tempfile.TemporaryDirectory() as folder:
        rows = sweep(
            student=options.student,
            data=text,
            order=[options.order],
            sequences=options.prompts,
            sequence_length=length,
            output=Path(folder, "sweep"),
            device="cpu",
        ).rows
    loaded = load_pair(open_pair(options.student), dtype=torch.float32)
    tokenizer = load_tokenizer(loaded.pair.teacher)
    windows = read_windows(find_sources(text).training, tokenizer, length, at_most=options.prompts)
    prompts = windows.input_ids[:, : options.prompt_tokens]
    print(f"{len(prompts)} prompts, {options.new_tokens} tokens each in drafts of {options.drafted}, temperature 1")
    heads = ["k", "layers", "top1", "acceptance", "of what is sampled", "measured", "tokens a pass", "counted"]
    print(f"| {' | '.join(heads)} |\n" + "|---" * len(heads) + "|", flush=True)
    differences = [show(loaded, row, prompts, options) for row in rows[:-1]]  # the last is the teacher itself
    print(f"largest difference of an acceptance: {max(differences):.3f}")


if __name__ == "__main__":
    main()
