"""Patched models in programs that are not this transformers: the same greedy tokens, or the first that differs.

    python benchmarks/readers.py [--keep FOLDER] [PROGRAM ...]

Each program is installed by pip into an environment of its own, which borrows torch from this one, and runs README's
lines on tiny random models as the Hub has them: patched in one block, so that tied ones come out untied, and two sizes
of Gemma 3 and of SmolLM3, with and without the period that programs suppose. What cannot be installed is said, and what
a program refuses; fails if tokens differ in a program that the model is said to be portable to. With ``--keep``,
environments stay in FOLDER, and are used again. llama.cpp is compiled: a C++ compiler, ten minutes of two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).parents[1]
INSIDE = Path(__file__).with_name("reader_runs.py")
SMOLLM3 = {"no_rope_layer_interval": 4, "use_sliding_window": False, "sliding_window": None}
# As models of the Hub have them, where these programs take no other: Pythia's feed-forward is four times its width.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_neox": ("gpt_neox", {"intermediate_size": 128, "hidden_act": "gelu"}),
    "gpt2": ("gpt2", {}),
    "llama": ("llama", {}),
    "qwen3": ("qwen3", {"use_sliding_window": False}),
    "gemma3": ("gemma3_text", {"num_hidden_layers": 26, "layer_types": None}),
    "gemma3 period": ("gemma3_text", {"num_hidden_layers": 26, "layer_types": None}),
    "smollm3": ("smollm3", SMOLLM3),
    "smollm3 period": ("smollm3", {**SMOLLM3, "num_hidden_layers": 12}),
}
VOCABULARY = 262  # as many words as the tokenizer has: llama.cpp takes no more of Gemma's embedding
HUB_NAMES = {
    "gpt_neox": {"rotary_pct": 0.5, "rotary_emb_base": 10000},
    "gpt2": {"n_ctx": 64},
    "smollm3": {"rope_theta": 2000000.0},
}
"""Keys of config.json on the Hub, which transformers 5 does not write. A patched model keeps whichever there are."""


@dataclass(frozen=True)
class Program:
    """What pip installs, and README's lines that are run before tokens are asked for.

    Attributes:
        source: a package that is installed from its source, which stays in the environment: more is in it.
    """

    packages: tuple[str, ...]
    lines: tuple[str, ...] = ()
    source: str = ""


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
    "llama.cpp": Program(
        ("transformers==4.57.*", "sentencepiece<0.3", "protobuf<5"),
        ("{bin}/python {source}/vendor/llama.cpp/convert_hf_to_gguf.py {model} --outtype f32 --outfile m.gguf",),
        source="llama-cpp-python",
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
    from tiny_models import make_config, make_model

    from boomerang_cli.engine.init_student import init_student
    from boomerang_cli.engine.patch import patch

    with contextlib.redirect_stderr(io.StringIO()):
        make_model(make_config(family, vocab_size=VOCABULARY, **changes), 1).save_pretrained(folder / "teacher")
        make_tokenizer().save_pretrained(folder / "teacher")
        edit_json(folder / "teacher" / "config.json", **HUB_NAMES.get(family, {}))
        special = {"unk_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
        tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", **special}  # as transformers 4 reads it
        edit_json(folder / "teacher" / "tokenizer_config.json", **tokenizer)
        made = init_student(folder / "teacher", output=folder / "student", keep_period=name.endswith("period"))
        change_weights(made.path / "model.safetensors")
        result = patch(layers=1, student=made.path, output=folder / "patched", verify=True)
    expected = [tokens_of(folder / "patched"), tokens_of(folder / "teacher")]
    return {"folder": folder, "result": result, "expected": expected}


def change_weights(path: Path) -> None:
    """As distilling does, so that what is the student's is told from what is the teacher's: the head, say."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(2)
    tensors = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of one's own: bytes and a few pairs of them, of a text split as GPT-2 splits it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pairs = [("t", "h"), ("h", "e"), ("i", "n")]
    words = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, pairs)]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]


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
    described = PROGRAMS[program]
    if not described.packages:
        return sys.executable, ""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        lent = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
        next(folder.glob("lib/python*/site-packages")).joinpath("lent.pth").write_text(lent.replace(os.pathsep, "\n"))
        if failed := pip(python, "install", *described.packages) or install_source(python, described.source, folder):
            return "", failed
        (folder / "complete").touch()
    return str(python), ""


def install_source(python: Path, package: str, folder: Path) -> str:
    """Unpack a package's source to ``source``, install that, and return what went wrong."""
    if not package:
        return ""
    archives = folder / "archives"
    if failed := pip(python, "download", "--no-deps", "--no-binary", ":all:", "--dest", archives, package):
        return failed
    (archive,) = archives.iterdir()
    shutil.unpack_archive(archive, archives)
    (unpacked,) = (path for path in archives.iterdir() if path.is_dir())
    return pip(python, "install", unpacked.rename(folder / "source"))


def pip(python: Path, *words: str | Path) -> str:
    """Run pip, and return the last line of what went wrong."""
    environment = {**os.environ, "CMAKE_ARGS": "-DLLAVA_BUILD=OFF"}  # pictures are not asked for, and take long
    done = subprocess.run([python, "-m", "pip", *words, "--quiet"], env=environment, capture_output=True, text=True)
    return last_line(done.stderr) if done.returncode else ""


def run(program: str, python: str, models: dict[str, Any]) -> dict[str, str]:
    """Run a program's lines on all models in one process, and tell of each how its tokens compare with the expected."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    asked = {}
    for name, model in models.items():
        names = {
            "bin": Path(python).parent,
            "source": Path(python).parents[1] / "source",
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
