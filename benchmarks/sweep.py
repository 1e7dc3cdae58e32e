"""`boomerang sweep` against scoring each size by itself, each loaded once from disk through transformers: one run.

Makes a GPT-NeoX pair with random weights and a text (removed at the end), writes every size with `boomerang patch`, and
lets both sides score the same windows: perplexity, and KL to the teacher. The plain side holds the teacher, loads one
size after another, and runs both on each batch, as the teacher's logits of a whole text fit into no memory. Wall time
is counted from the first weight that is loaded to the last number, without imports and without writing the sizes; peak
memory is that of the whole process. Sides take turns; the fastest run of each counts.

    python benchmarks/sweep.py
    python benchmarks/sweep.py --layers 32 --hidden 512 --order first
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from typing import Any

BOUND = 0.6  # SPEC.md: of the plain side's time
LENGTH = 128

MAKE_PAIR = """
import sys, random, torch
from pathlib import Path
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.patch import patch
folder, layers, hidden, vocabulary, windows, order = Path(sys.argv[1]), *map(int, sys.argv[2:6]), sys.argv[6]
torch.manual_seed(0)
config = GPTNeoXConfig(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=4,
    intermediate_size=4 * hidden, vocab_size=vocabulary, max_position_embeddings=LENGTH, tie_word_embeddings=False)
GPTNeoXForCausalLM(config).save_pretrained(folder / "teacher")
words = {"<eos>": 0} | {f"w{number}": number for number in range(1, vocabulary)}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="<eos>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(folder / "teacher")
drawn = random.Random(0)
text = " ".join(f"w{drawn.randrange(1, vocabulary)}" for _ in range(windows * LENGTH))
(folder / "text.txt").write_text(text)
made = init_student(folder / "teacher", output=folder / "student")
for k in range(made.patchable_blocks + 1):
    patch(layers=k, order=order, student=folder / "student", output=folder / f"size-{k}")
print(made.patchable_blocks + 1)
""".replace("LENGTH", str(LENGTH))

COMMON = """
import json, math, resource, sys, time, torch
folder, sizes, windows, order = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
"""

SWEEP = (
    COMMON
    + """
import boomerang_cli.engine.evaluation.curve, boomerang_cli.engine.evaluation.measure
import boomerang_cli.engine.evaluation.search
import boomerang_cli.engine.evaluation.session
from boomerang_cli.engine.sweep import sweep
started = time.monotonic()
rows = sweep(student=f"{folder}/student", data=[f"{folder}/text.txt"], order=[order], sequences=windows,
    output=f"{folder}/sweep", overwrite=True).rows
scores = [[row.perplexity, row.kl] for row in rows]
"""
)

PLAIN = (
    COMMON
    + """
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging
from boomerang_cli.engine.distillation.data import find_sources
from boomerang_cli.engine.evaluation.scoring import CPU_BATCH_TOKENS
from boomerang_cli.engine.evaluation.windows import read_windows
logging.disable_progress_bar()
length, batch = LENGTH, CPU_BATCH_TOKENS // LENGTH
text = read_windows(find_sources([f"{folder}/text.txt"]).training, AutoTokenizer.from_pretrained(f"{folder}/teacher"),
    length, at_most=windows)
started = time.monotonic()
teacher = AutoModelForCausalLM.from_pretrained(f"{folder}/teacher", dtype=torch.float32) if WITH_KL else None
scores = []
for k in range(sizes):
    model = AutoModelForCausalLM.from_pretrained(f"{folder}/size-{k}", dtype=torch.float32)
    likelihood = kl = tokens = 0
    with torch.inference_mode():
        for rows, labels in zip(text.input_ids.split(batch), text.labels.split(batch)):
            found = F.log_softmax(model(rows, use_cache=False).logits, -1).flatten(0, 1)
            real = labels.flatten() >= 0
            likelihood += F.nll_loss(found[real], labels.flatten()[real], reduction="sum").item()
            tokens += real.sum().item()
            if teacher is not None:
                expected = F.log_softmax(teacher(rows, use_cache=False).logits, -1).flatten(0, 1)
                kl += F.kl_div(found[real], expected[real], reduction="sum", log_target=True).item()
    scores.append([math.exp(likelihood / tokens), kl / tokens])
""".replace("LENGTH", str(LENGTH))
)

REPORT = """
seconds = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"seconds": seconds, "peak_bytes": peak, "scores": scores}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--windows", type=int, default=64, help=f"of {LENGTH} tokens")
    parser.add_argument("--order", choices=("first", "last"), default="last")
    parser.add_argument("--runs", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shape = [arguments.layers, arguments.hidden, arguments.vocabulary, arguments.windows, arguments.order]
        sizes = int(_python(MAKE_PAIR, folder, *shape))
        given = folder, sizes, arguments.windows, arguments.order
        sides = {"sweep": SWEEP, "each by itself": PLAIN.replace("WITH_KL", "True"),
                 "without KL": PLAIN.replace("WITH_KL", "False")}  # fmt: skip
        runs: dict[str, list[Any]] = {name: [] for name in sides}
        for _ in range(arguments.runs):
            for name, program in sides.items():
                runs[name].append(json.loads(_python(program + REPORT, *given)))
    return _report(sizes, arguments, {name: min(each, key=lambda run: run["seconds"]) for name, each in runs.items()})


def _python(program: str, *arguments: object) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]


def _report(sizes: int, arguments: argparse.Namespace, best: dict[str, Any]) -> int:
    tokens = arguments.windows * LENGTH
    print(f"{sizes} sizes of {arguments.layers} layers, order {arguments.order}, {tokens:,} tokens, float32")
    for name, run in best.items():
        print(f"{name:15} {run['seconds']:7.2f} s  peak {run['peak_bytes'] / 1e6:6.0f} MB")
    ours, plain = best["sweep"], best["each by itself"]
    pairs = [
        (mine, theirs)
        for one, other in zip(ours["scores"], plain["scores"], strict=True)
        for mine, theirs in zip(one, other, strict=True)
    ]
    difference = max(abs(mine - theirs) / max(abs(theirs), 1e-3) for mine, theirs in pairs)
    ratio = ours["seconds"] / plain["seconds"]
    print(f"largest relative difference of a perplexity or KL: {difference:.1e}")
    print(f"ratio {ratio:.2f} (bound {BOUND}); without KL {ours['seconds'] / best['without KL']['seconds']:.2f}")
    return 0 if ratio <= BOUND and difference < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
