"""Models and numbers so small that a loss of theirs can be written out as sums."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from boomerang_cli.engine.pair.layers import LayerMap

VOCABULARY = 31
HIDDEN = 16
LAYERS = LayerMap(5, (0, 2, 4))
# Left and right padding, a row of one token, a row without any.
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
INPUT_IDS = torch.randint(0, VOCABULARY, MASK.shape, generator=torch.Generator().manual_seed(1))
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "gpt_neox": GPTNeoXConfig(**SIZES, num_hidden_layers=5),
    "llama": LlamaConfig(**SIZES, num_hidden_layers=5),
    "qwen3": Qwen3Config(**SIZES, num_hidden_layers=5, tie_word_embeddings=True),
    "gemma2": Gemma2Config(**SIZES, num_hidden_layers=5, final_logit_softcapping=2.0),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=HIDDEN, n_layer=5, n_head=2, bos_token_id=1, eos_token_id=2),
    "opt": OPTConfig(**{**SIZES, "num_hidden_layers": 5}, ffn_dim=24, word_embed_proj_dim=8),
}


def model_of(family: str, *, layers: int = 5, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    settings = CONFIGS[family].to_diff_dict()
    settings.pop("layer_types", None)
    config = type(CONFIGS[family])(**{**settings, "num_hidden_layers": layers})
    return AutoModelForCausalLM.from_config(config).eval()


def pair_of(family: str) -> tuple[PreTrainedModel, PreTrainedModel]:
    return model_of(family, layers=LAYERS.student_layers, seed=1), model_of(family)


def batch(rows: int = 2, length: int = 7) -> Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(2))


def random(*shape: int, seed: int = 0, **options: Any) -> Tensor:
    options = {"dtype": torch.float64, **options}
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **options)


def gradient_of(loss: Tensor, tensor: Tensor) -> Tensor:
    return torch.autograd.grad(loss, tensor, retain_graph=True)[0]


def real_positions() -> list[tuple[int, int]]:
    return [(row, position) for row, position in MASK.nonzero().tolist()]
