"""Patched models in programs that are not transformers: the same greedy tokens, or the first that differs.

Makes tiny random pairs of GPT-NeoX, Llama and Qwen3 with tied embeddings, patches them (the last comes out untied), and
continues a prompt with each program that is installed. Each reads the model folder with its own code:

    pip install ctranslate2 "mlx[cpu]" mlx-lm litgpt lm-eval
    python benchmarks/readers.py

CTranslate2 4.8 reads configurations through transformers and does not know how version 5 keeps GPT-NeoX's rotary
values; it reads the other two.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from files import edit_json
from tiny_models import load, save_pair

from boomerang_cli.engine.patch import patch

PROMPT = [1, 5, 9, 33, 17]
TOKENS = 32
# As models of the Hub have them, where these programs take no other: Pythia's feed-forward is four times its width.
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt_neox": {"intermediate_size": 128, "hidden_act": "gelu"},
    "llama": {},
    "qwen3": {"use_sliding_window": False},
}
HUB_NAMES = {"gpt_neox": {"rotary_pct": 0.5, "rotary_emb_base": 10000, "rope_parameters": None}}
"""Keys of config.json on the Hub; transformers 5 saves others. A patched model keeps whichever there are."""


def main() -> int:
    wrong = 0
    print(f"{'family':10} {'program':14} {'embeddings':12} greedy tokens, {TOKENS} of them")
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            model, tied = make(Path(folder), family)
            expected = with_transformers(model)
            for program, (module, generate) in PROGRAMS.items():
                told = compare(module, generate, model, expected)
                wrong += told.startswith("differ")
                print(f"{family:10} {program:14} {'tied' if tied else 'untied':12} {told}", flush=True)
    return 1 if wrong else 0


def make(folder: Path, family: str) -> tuple[Path, bool]:
    """Write a pair and patch one block of it, from the end: the embedding is the student's, the head the teacher's."""
    with contextlib.redirect_stderr(io.StringIO()):
        teacher, student = save_pair(folder, family, **FAMILIES[family])
    for model in (teacher, student):
        edit_json(model / "config.json", **HUB_NAMES.get(family, {}))
    result = patch(layers=1, order="last", student=student, output=folder / "patched", verify=True)
    return folder / "patched", result.tied_embeddings


def compare(module: str, generate: Callable[[Path], list[int]], model: Path, expected: list[int]) -> str:
    if importlib.util.find_spec(module) is None:
        return "not installed"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = generate(model)
    except Exception as error:  # a program that does not know the family: told, not counted
        return f"not read: {type(error).__name__}: {str(error).splitlines()[0][:80]}"
    if found == expected:
        return "the same"
    at = next(index for index, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
    return f"differ from token {at} on: {found[at : at + 4]}, not {expected[at : at + 4]}"


def with_transformers(model: Path) -> list[int]:
    loaded = load(model)
    return greedily(lambda tokens: loaded(torch.tensor([tokens])).logits[0, -1].argmax().item())


def greedily(next_token: Callable[[list[int]], Any]) -> list[int]:
    tokens = list(PROMPT)
    with torch.no_grad():
        for _ in range(TOKENS):
            tokens.append(int(next_token(tokens)))
    return tokens[len(PROMPT) :]


def with_ctranslate2(model: Path) -> list[int]:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(model)).convert(str(model.parent / "ctranslate2"))
    words = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    prompt = [word for token in PROMPT for word, number in words.items() if number == token]
    generator = ctranslate2.Generator(str(model.parent / "ctranslate2"))
    made = generator.generate_batch([prompt], max_length=TOKENS, end_token=[], include_prompt_in_result=False)
    return list(made[0].sequences_ids[0])


def with_mlx(model: Path) -> list[int]:
    import mlx.core
    from mlx_lm.utils import load_model

    loaded, _ = load_model(model)
    return greedily(lambda tokens: mlx.core.argmax(loaded(mlx.core.array([tokens]))[0, -1]).item())


def with_litgpt(model: Path) -> list[int]:
    import litgpt.config
    from litgpt import GPT, Config
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint

    described = litgpt_config(json.loads((model / "config.json").read_text()))
    litgpt.config.name_to_config[described["name"]] = described
    shutil.copytree(model, model.parent / "litgpt")  # it writes its own files beside the model's
    convert_hf_checkpoint(model.parent / "litgpt", model_name=described["name"])
    loaded = GPT(Config.from_name(described["name"])).eval()
    loaded.load_state_dict(torch.load(model.parent / "litgpt" / "lit_model.pth", weights_only=True))
    return greedily(lambda tokens: loaded(torch.tensor([tokens]))[0, -1].argmax().item())


def litgpt_config(config: dict[str, Any]) -> dict[str, Any]:
    """Describe a model as LitGPT wants it: by a name that says how to convert, and its own words for sizes."""
    sizes = {
        "hf_config": {},
        "block_size": config["max_position_embeddings"],
        "vocab_size": config["vocab_size"],
        "padded_vocab_size": config["vocab_size"],
        "n_layer": config["num_hidden_layers"],
        "n_head": config["num_attention_heads"],
        "n_embd": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
    }
    if config["model_type"] == "gpt_neox":
        return {"name": "pythia-tiny", **sizes, "rotary_percentage": config["rotary_pct"]}
    like_llama = {
        "n_query_groups": config["num_key_value_heads"],
        "head_size": config["head_dim"],
        "rotary_percentage": 1.0,
        "parallel_residual": False,
        "bias": False,
        "norm_class_name": "RMSNorm",
        "norm_eps": config["rms_norm_eps"],
        "mlp_class_name": "LLaMAMLP",
        "norm_qk": config["model_type"] == "qwen3",
    }
    return {"name": "Qwen3-tiny" if like_llama["norm_qk"] else "llama-tiny", **sizes, **like_llama}


PROGRAMS: dict[str, tuple[str, Callable[[Path], list[int]]]] = {
    "CTranslate2": ("ctranslate2", with_ctranslate2),
    "MLX LM": ("mlx_lm", with_mlx),
    "LitGPT": ("litgpt", with_litgpt),
}

if __name__ == "__main__":
    raise SystemExit(main())
