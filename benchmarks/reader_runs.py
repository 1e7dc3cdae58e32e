"""What runs inside a program's environment, for ``readers.py``: the tokens that the program writes for one model."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROMPT = [1, 5, 9, 33, 17]
TOKENS = 16


def greedily(next_token: Callable[[list[int]], Any]) -> list[int]:
    tokens = list(PROMPT)
    for _ in range(TOKENS):
        tokens.append(int(next_token(tokens)))
    return tokens[len(PROMPT) :]


def with_transformers(model: Path, **more: Any) -> list[int]:
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model).eval()
    loaded.generation_config.eos_token_id = None  # so many tokens are asked for, whatever they are
    more |= {"max_new_tokens": TOKENS, "do_sample": False}
    prompt = torch.tensor([PROMPT])
    made = loaded.generate(prompt, attention_mask=torch.ones_like(prompt), **more)
    tokens: list[int] = made[0, len(PROMPT) :].tolist()
    return tokens


def assisted(folder: Path) -> list[int]:
    """A size drafts for its teacher, which writes what it writes alone."""
    from transformers import AutoModelForCausalLM

    draft = AutoModelForCausalLM.from_pretrained(folder / "patched").eval()
    return with_transformers(folder / "teacher", assistant_model=draft)


def heal(folder: Path) -> None:
    """Train a LoRA on the student, and merge it; it is a student like any other."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_pretrained(folder / "student")
    model = get_peft_model(plain, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-2)
    for _ in range(3):
        tokens = torch.randint(3, 60, (2, 16))
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.merge_and_unload().save_pretrained("healed")


def patched_on(folder: Path) -> list[int]:
    """The patched model of the healed student loads; all of its blocks patched, it is the teacher."""
    (made,) = Path().glob("patched-*L")
    with_transformers(made)
    return with_transformers(folder / "teacher")


def with_ctranslate2(folder: Path) -> list[int]:
    import ctranslate2

    words = json.loads((folder / "patched" / "tokenizer.json").read_text())["model"]["vocab"]
    prompt = [word for token in PROMPT for word, number in words.items() if number == token]
    generator = ctranslate2.Generator("ct2")
    made = generator.generate_batch([prompt], max_length=TOKENS, end_token=[], include_prompt_in_result=False)
    return list(made[0].sequences_ids[0])


def know_tokenizer(folder: Path) -> None:
    """Tell llama.cpp's converter of a tokenizer that it was never told of, as it asks for that.

    It knows tokenizers by a hash of the tokens that they make of one text, and refuses others with theirs.
    """
    converter = Path(sys.prefix) / "source" / "vendor" / "llama.cpp"
    table = converter / "convert_hf_to_gguf_update.py"
    if '"mine"' in (known := table.read_text()):
        return
    command = [sys.executable, converter / "convert_hf_to_gguf.py", folder / "patched", "--vocab-only"]
    refused = subprocess.run([*command, "--outfile", "words.gguf"], capture_output=True, text=True).stderr
    (number,) = re.findall(r"chkhsh: +([0-9a-f]+)", refused)
    row = f'{{"name": "gpt-2", "tokt": TOKENIZER_TYPE.BPE, "repo": "mine", "chkhsh": "{number}"}},'
    table.write_text(known.replace("pre_computed_hashes = [", f"pre_computed_hashes = [{row}", 1))
    subprocess.run(
        [sys.executable, table, "--check-missing"], cwd=converter, check=True, capture_output=True, text=True
    )


def with_llama_cpp(_: Path) -> list[int]:
    import numpy
    from llama_cpp import GGML_TYPE_F32, Llama

    exact = {"type_k": GGML_TYPE_F32, "type_v": GGML_TYPE_F32}  # its cache is float16 otherwise
    loaded = Llama("m.gguf", n_ctx=64, logits_all=True, n_threads=1, verbose=False, **exact)

    def next_token(tokens: list[int]) -> Any:
        loaded.reset()
        loaded.eval(tokens)
        return numpy.argmax(loaded.scores[len(tokens) - 1])

    return greedily(next_token)


def with_onnx(folder: Path) -> list[int]:
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM

    loaded = ORTModelForCausalLM.from_pretrained("onnx")

    def next_token(tokens: list[int]) -> Any:
        prompt = torch.tensor([tokens])
        return loaded(input_ids=prompt, attention_mask=torch.ones_like(prompt)).logits[0, -1].argmax()

    return greedily(next_token)


def with_mlx(folder: Path) -> list[int]:
    import mlx.core
    from mlx_lm.utils import load_model

    loaded, _ = load_model(folder / "patched")
    return greedily(lambda tokens: mlx.core.argmax(loaded(mlx.core.array([tokens]))[0, -1]).item())


def with_litgpt(folder: Path) -> list[int]:
    import litgpt.config
    import torch
    from litgpt import GPT, Config
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint

    described = litgpt_config(json.loads((folder / "patched" / "config.json").read_text()))
    litgpt.config.name_to_config[described["name"]] = described
    shutil.copytree(folder / "patched", "litgpt")  # it writes its own files beside the model's
    convert_hf_checkpoint(Path("litgpt"), model_name=described["name"])
    loaded = GPT(Config.from_name(described["name"])).eval()
    loaded.load_state_dict(torch.load("litgpt/lit_model.pth", weights_only=True))
    with torch.no_grad():
        return greedily(lambda tokens: loaded(torch.tensor([tokens]))[0, -1].argmax().item())


def litgpt_config(config: dict[str, Any]) -> dict[str, Any]:
    """Describe a model as LitGPT wants it: by a name that says how to convert, and its own words for sizes."""
    if config["model_type"] not in ("gpt_neox", "llama", "qwen3"):
        raise NotImplementedError(f"LitGPT is not told how to read {config['model_type']}")
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


PREPARED = {"peft": heal, "llama.cpp": know_tokenizer}
RUNS: dict[str, Callable[[Path], list[int]]] = {
    "transformers": lambda folder: with_transformers(folder / "patched"),
    "transformers 4": lambda folder: with_transformers(folder / "patched"),
    "assisted": assisted,
    "peft": patched_on,
    "CTranslate2": with_ctranslate2,
    "ONNX": with_onnx,
    "llama.cpp": with_llama_cpp,
    "MLX LM": with_mlx,
    "LitGPT": with_litgpt,
}


def run(program: str, folder: Path, lines: list[str]) -> list[int] | str:
    """Return a program's tokens for one model, or why there are none."""
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        try:
            if program in PREPARED:
                PREPARED[program](folder)
            for line in lines:
                subprocess.run(line, shell=True, check=True, capture_output=True, text=True)
            return RUNS[program](folder)
        except subprocess.CalledProcessError as error:
            return str(error.stderr).strip().splitlines()[-1][:200]
        except Exception as error:  # whatever a program says of a model that it does not know
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        finally:
            os.chdir("/")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Reads the models from stdin, as readers.py writes them."
    )
    parser.add_argument("program", choices=RUNS)
    program = parser.parse_args().program
    models = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        tokens = {name: run(program, Path(model["folder"]), model["lines"]) for name, model in models.items()}
    print(json.dumps(tokens))
