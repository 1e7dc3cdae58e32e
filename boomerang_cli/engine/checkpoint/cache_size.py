"""How many bytes a model keeps of what it has read: keys and values, states of linear attention; by its config alone.

What a layer keeps of one sequence of n tokens, in numbers; in a sliding window or a chunk of w tokens, min(n, w) is n:

- attention: ``n · heads · (key size + value size)``, of the heads of keys and values: grouped-query attention has fewer
  of them than of queries, multi-query attention one;
- latent attention (DeepSeek): ``n · (kv_lora_rank + qk_rope_head_dim)``, and with an indexer ``n · index_head_dim``;
- the gated delta rule: ``value heads · key size · value size``, and ``kernel · (2 · key heads · key size + value heads
  · value size)`` of its convolution;
- Mamba 2: ``heads · size · state``, and ``kernel · (heads · size + 2 · groups · state)``; Mamba 1: ``intermediate ·
  (state + kernel)``; beside attention in one layer (Falcon-H1): both;
- a short convolution (LFM2): ``hidden · kernel``; experts or a feed-forward alone: nothing.

States are float32, all else has the model's dtype. ``tests/checkpoint/test_cache_size.py`` compares all of it with the
tensors of transformers' own caches; what was not found equal there is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from boomerang_cli.engine.checkpoint.class_config import completed_config
from boomerang_cli.engine.checkpoint.families import FAMILIES, Family, is_encoder
from boomerang_cli.engine.checkpoint.family_table import derived_rows
from boomerang_cli.engine.checkpoint.layer_config import layer_values
from boomerang_cli.engine.errors import SelectionError, UnsupportedModelError

_OTHERS = {
    "bailing_hybrid", "cpmant", "deepseek_v4", "dots3_note_text", "inkling_text", "kimi_linear", "longcat_flash",
    "mimo_v2_flash", "openai-gpt", "qwen4_exp_text", "recurrent_gemma", "xlstm",
}  # fmt: skip
"""Types whose caches are of yet another kind."""
_HYBRID = {"falcon_h1"}
"""Types each of whose layers has attention and a state."""
_HEADS_OWN = ("num_key_value_heads", "head_dim", "sliding_window")
_ASKED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("llama", "gpt_neox", "gpt2", "opt", "olmo2"), ()),
    **dict.fromkeys(("olmo3", "phi3"), ("sliding_window",)),
    **dict.fromkeys(("mistral", "mixtral", "qwen2", "smollm3"), ("num_key_value_heads", "sliding_window")),
    **dict.fromkeys(("gemma2", "gemma3_text", "gpt_oss", "qwen3"), _HEADS_OWN),
    "qwen3_moe": (*_HEADS_OWN, "use_sliding_window"),
}
"""Types of plain attention, and what their classes put in the place of what ``config.json`` leaves out: no class, and
so no library, is asked for anything else. Without ``num_key_value_heads`` and ``head_dim`` there are as many heads of
keys as of queries, which share the hidden size."""
_TYPES = ("layer_types", "layers_block_type")
_ATTENTION = ("full_attention", "attention", "sliding_attention", "chunked_attention", "indexed_attention", "hybrid")
_WINDOWS = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
_STATES = ("linear_attention", "mamba", "hybrid")
_NOTHING = ("moe", "mlp")

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "attention_heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEAD_SIZE = ("head_dim", "kv_channels")
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")
_STATE_BYTES = 4


@dataclass(frozen=True)
class _Layer:
    """What ``config.json`` says of one layer, with the class's own values where it says nothing.

    Attributes:
        own: what it says of this layer alone.
    """

    config: Mapping[str, Any]
    family: Family
    name: str
    own: Mapping[str, Any] = field(default_factory=dict)

    def find(self, *fields: str) -> Any:
        """Return the value of the first of these fields that has one."""
        text = self.family.text_config(self.config)
        for values in (self.own, text):
            if found := [values[each] for each in fields if values.get(each) is not None]:
                return found[0]
        asked = [each for each in fields if each in _ASKED.get(self.model_type, fields)]
        if any(each in text for each in fields) or not asked:  # null says that there is none
            return None
        return self._completed(*asked)

    @property
    def model_type(self) -> str:
        return str(self.family.text_config(self.config).get("model_type") or self.config["model_type"])

    def _completed(self, *fields: str) -> Any:
        whole = self.family.text_config(completed_config(self.config, self.name))
        return next((whole[each] for each in fields if whole.get(each) is not None), None)

    def number(self, *fields: str) -> int:
        """Return a number above 0.

        Raises:
            UnsupportedModelError: none of these fields holds one.
        """
        value = self.find(*fields) or self._completed(*fields)
        if type(value) is not int or value < 1:
            raise UnsupportedModelError(f"{self.name}: config.json has no usable {fields[0]}: {value!r}")
        return value

    def bytes(self, kind: str, context: int, dtype_bytes: int) -> int:
        """Return what a layer of this kind keeps of one sequence."""
        tokens = min(context, self.number(_WINDOWS[kind])) if kind in _WINDOWS else context
        size = tokens * self._numbers_a_token(kind) * dtype_bytes if kind in _ATTENTION else 0
        if kind == "conv":
            return self.number(*_HIDDEN) * self.number("conv_L_cache") * dtype_bytes
        if kind in _STATES:
            columns, state = self._delta_rule() if self.find("linear_num_value_heads") else self._mamba()
            return size + columns * dtype_bytes + state * _STATE_BYTES
        if kind not in _ATTENTION + _NOTHING:
            raise UnsupportedModelError(_unknown(self.name, f"layers of {kind}"))
        return size

    def _numbers_a_token(self, kind: str) -> int:
        if self.find("kv_lora_rank"):
            latent = self.number("kv_lora_rank") + self.number("qk_rope_head_dim")
            return latent + (self.number("index_head_dim") if kind == "indexed_attention" else 0)
        attention = self.find("attn_config")
        if isinstance(attention, Mapping) and "kv_n_heads" in attention:  # DBRX
            key_heads = attention["kv_n_heads"]
        else:
            key_heads = 1 if self.find("multi_query") else self.find(*_KEY_HEADS) or self.number(*_HEADS)
        size = self.find(*_HEAD_SIZE) or self.number(*_HIDDEN) // self.number(*_HEADS)
        return int(2 * key_heads * size)

    def _delta_rule(self) -> tuple[int, int]:
        """Return the numbers of the convolution's columns, and of the state."""
        keys = self.number("linear_num_key_heads") * self.number("linear_key_head_dim")
        heads, size = self.number("linear_num_value_heads"), self.number("linear_value_head_dim")
        kernel = self.number("linear_conv_kernel_dim")
        return kernel * (2 * keys + heads * size), heads * size * self.number("linear_key_head_dim")

    def _mamba(self) -> tuple[int, int]:
        state = self.number("mamba_d_state", "ssm_state_size", "state_size")
        kernel = self.number("mamba_d_conv", "conv_kernel")
        heads = self.find("mamba_n_heads", "mamba_num_heads", "num_heads")
        if not heads:
            inner = self.number("intermediate_size")
            return kernel * inner, state * inner
        inner = heads * self.number("mamba_d_head", "mamba_head_dim", "head_dim")
        groups = self.number("mamba_n_groups", "n_groups")
        return kernel * (inner + 2 * groups * state), state * inner


def cache_bytes(
    config: Mapping[str, Any], family: Family, *, context: int, batch: int, dtype_bytes: int, name: str
) -> int:
    """Return the bytes of the caches of ``batch`` sequences of ``context`` tokens each.

    Args:
        config: of a whole model.
        dtype_bytes: of a number of the model's dtype.
        name: the model's.

    Raises:
        SelectionError: more tokens than the model has positions for.
        UnsupportedModelError: a type that keeps something else, or a value that cannot be used.
    """
    if "global_head_dim" in family.text_config(config):  # Gemma 4 as published: its class has it by layers
        config = completed_config(config, name)
    whole = _Layer(config, family, name)
    known = whole.model_type in FAMILIES or whole.model_type in derived_rows()
    if whole.model_type in _OTHERS or is_encoder(family.text_config(config)) or not known:
        raise UnsupportedModelError(_unknown(name, f"{whole.model_type} models"))
    if (positions := positions_of(config, family, name)) and context > positions:
        raise SelectionError(f"--context {context} is more than {name} has positions for: give {positions} or fewer")
    values = layer_values(config, family, name)
    kinds = _kinds(whole, values)
    own = values.get("per_layer_config") or [None] * len(kinds)
    layers = [_Layer(config, family, name, each or {}) for each in own]
    return batch * sum(layer.bytes(kind, context, dtype_bytes) for layer, kind in zip(layers, kinds, strict=True))


def positions_of(config: Mapping[str, Any], family: Family, name: str) -> int | None:
    """Return for how many tokens a model has positions; None where nothing says so."""
    positions = _Layer(config, family, name).find(*_POSITIONS)
    return positions if isinstance(positions, int) else None


def _kinds(whole: _Layer, values: Mapping[str, list[Any]]) -> list[str]:
    """Return what each layer is to its cache: as transformers' caches find it out, by lists before windows."""
    depth = whole.family.teacher_depth(whole.config)
    for listed in (values.get(name) for name in _TYPES):
        if listed:
            return [str(each) for each in listed]
    if "attn_layer_indices" in values:
        return ["attention" if each else "mamba" for each in values["attn_layer_indices"]]
    if whole.model_type in _HYBRID:
        return ["hybrid"] * depth
    if whole.find("state_size") and not whole.find("num_attention_heads"):
        return ["mamba"] * depth
    for kind, window in _WINDOWS.items():
        if whole.find(window) is not None and whole.find("use_sliding_window") is not False:
            return [kind] * depth
    return ["full_attention"] * depth


def _unknown(name: str, what: str) -> str:
    return f"{name}: what {what} keep of a text is not known, so --memory cannot be: give --size or --params"
