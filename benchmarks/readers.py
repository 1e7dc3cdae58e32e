"""Patched models in programs that are not this transformers: the same greedy tokens, or the first that differs.

    python benchmarks/readers.py [--keep FOLDER] [PROGRAM ...]

Each program is installed by pip into an environment of its own, which borrows torch from this one, and runs README's
lines on tiny random models as the Hub has them: patched in one block, so that tied ones come out untied, and two sizes
of Gemma 3, with and without the period that programs suppose. What cannot be installed is said, and what a program
refuses; fails if tokens differ in a program that the model is said to be portable to. With ``--keep``, environments
stay in FOLDER, and are used again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
INSIDE = Path(__file__).with_name("reader_runs.py")
# As models of the Hub have them, where these programs take no other: Pythia's feed-forward is four times its width.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_neox": ("gpt_neox", {"intermediate_size": 128, "hidden_act": "gelu"}),
    "gpt2": ("gpt2", {}),
    "llama": ("llama", {}),
    "qwen3": ("qwen3", {"use_sliding_window": False}),
    "gemma3": ("gemma3_text", {"num_hidden_layers": 26, "layer_types": None}),
    "gemma3 period": ("gemma3_text", {"num_hidden_layers": 26, "layer_types": None}),
}
HUB_NAMES = {"gpt_neox": {"rotary_pct": 0.5, "rotary_emb_base": 10000}, "gpt2": {"n_ctx": 64}}
"""Keys of config.json on the Hub, which transformers 5 does not write. A patched model keeps whichever there are."""


@dataclass(frozen=True)
class Program:
    """What pip installs, and README's lines that are run before tokens are asked for."""

    packages: tuple[str, ...]
    lines: tuple[str, ...] = ()


PROGRAMS = {
    "transformers": Program(()),
    "transformers 4": Program(("transformers==4.57.*",)),
    "assisted": Program(()),
    "peft": Program(("peft",), ("{boomerang} patch --student healed --teacher {teacher} --layers 1",)),
    "CTranslate2": Program(
        ("ctranslate2", "transformers==4.57.*"),
        ("{bin}/ct2-transformers-converter --model {model} --output_dir ct2",),
    ),
    "ONNX": Program(
        ("optimum-onnx[onnxruntime]",),
        ("{bin}/optimum-cli export onnx --model {model} --task text-generation-with-past onnx",),
    ),
    "MLX LM": Program(("mlx[cpu]", "mlx-lm")),
    "LitGPT": Program(("litgpt", "transformers==4.57.*")),
}


TEACHERS = {"assisted", "peft"}
"""What must come out there is what the teacher writes."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=", ".join(PROGRAMS))
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = {name: make(Path(folder) / name.replace(" ", "-"), *MODELS[name], name) for name in MODELS}
        environments = (chosen.keep or Path(folder) / "environments").absolute()
        wrong = [compare(name, environments, models) for name in chosen.programs or PROGRAMS]
    return 1 if any(wrong) else 0


def make(folder: Path, family: str, changes: dict[str, Any], name: str) -> dict[str, Any]:
    """Write a teacher, its student, and the model with one block patched; return what ``patch`` says of that."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    from files import edit_json
    from tiny_models import make_config, make_model, make_tokenizer

    from boomerang_cli.engine.init_student import init_student
    from boomerang_cli.engine.patch import patch

    with contextlib.redirect_stderr(io.StringIO()):
        make_model(make_config(family, **changes), 1).save_pretrained(folder / "teacher")
        make_tokenizer().save_pretrained(folder / "teacher")
        edit_json(folder / "teacher" / "config.json", **HUB_NAMES.get(family, {}))
        special = {"unk_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
        tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", **special}  # as transformers 4 reads it
        edit_json(folder / "teacher" / "tokenizer_config.json", **tokenizer)
        made = init_student(folder / "teacher", output=folder / "student", keep_period=name.endswith("period"))
        result = patch(layers=1, student=made.path, output=folder / "patched", verify=True)
    expected = [tokens_of(folder / "patched"), tokens_of(folder / "teacher")]
    return {"folder": folder, "result": result, "expected": expected}


def compare(program: str, environments: Path, models: dict[str, Any]) -> bool:
    """Print what a program makes of each model; tell whether one differs that should not."""
    python, failed = install(program, environments / program.replace(" ", "-"))
    results = dict.fromkeys(models, f"not installed: {failed}") if failed else run(program, python, models)
    wrong = False
    for name, result in results.items():
        known = {each for programs in models[name]["result"].misreaders.values() for each in programs}
        portable = program not in known
        print(f"{program:15} {name:14} {'portable' if portable else 'not portable':13} {result}", flush=True)
        wrong |= portable and result.startswith("differ")
    return wrong


def install(program: str, folder: Path) -> tuple[str, str]:
    """Return the Python of a program's environment, and why it has none."""
    packages = PROGRAMS[program].packages
    if not packages:
        return sys.executable, ""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        lent = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
        next(folder.glob("lib/python*/site-packages")).joinpath("lent.pth").write_text(lent.replace(os.pathsep, "\n"))
        command = [python, "-m", "pip", "install", "--quiet", *packages]
        installed = subprocess.run(command, capture_output=True, text=True)
        if installed.returncode:
            return "", last_line(installed.stderr)
        (folder / "complete").touch()
    return str(python), ""


def run(program: str, python: str, models: dict[str, Any]) -> dict[str, str]:
    """Run a program's lines on all models in one process, and tell of each how its tokens compare with the expected."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    asked = {}
    for name, model in models.items():
        names = {
            "bin": Path(python).parent,
            "model": model["folder"] / "patched",
            "teacher": model["folder"] / "teacher",
            "boomerang": f"{sys.executable} -m boomerang_cli",
        }
        lines = [line.format(**names) for line in PROGRAMS[program].lines]
        asked[name] = {"folder": str(model["folder"]), "lines": lines}
    command = [python, INSIDE, program]
    done = subprocess.run(command, input=json.dumps(asked), env=environment, capture_output=True, text=True)
    if done.returncode:
        return dict.fromkeys(models, f"failed: {last_line(done.stderr)}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: told(found[name], model["expected"][program in TEACHERS]) for name, model in models.items()}


def told(found: list[int] | str, expected: list[int]) -> str:
    if isinstance(found, str):
        return f"refused: {found}"
    if found == expected:
        return "the same"
    at = next((index for index, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), 0)
    return f"differ from token {at} on: {found[at : at + 4]}, not {expected[at : at + 4]}"


def tokens_of(model: Path) -> list[int]:
    """Return what the transformers of this environment writes."""
    import torch
    from reader_runs import greedily
    from tiny_models import load

    torch.set_num_threads(1)  # so small a model is slower on more
    loaded = load(model)
    with torch.no_grad():
        return greedily(lambda tokens: loaded(torch.tensor([tokens])).logits[0, -1].argmax().item())


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")[:200]


if __name__ == "__main__":
    raise SystemExit(main())
