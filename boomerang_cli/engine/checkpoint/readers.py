"""Programs that read models with code of their own, and what they suppose of a model type.

A model in which that is not so is refused there or, without a word, another model. What stands here was read in their
sources, and measured on tiny models where they run (``benchmarks/readers.py``): llama.cpp with its converter, as of
llama-cpp-python 0.3.36, mlx-lm 0.32, SGLang 0.5.23, and vLLM 0.32, which refuses a head that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LLAMA_CPP, MLX, SGLANG, VLLM = "llama.cpp", "MLX LM", "SGLang", "vLLM"


@dataclass(frozen=True)
class Reader:
    """What a program supposes of the models of a type, whatever ``config.json`` says.

    Attributes:
        period: of every so many layers the last is ``marked``, and no other; 0 supposes nothing.
        begins: it is the first of them.
        listed: the field of ``config.json`` that tells of each layer whether that is so.
        period_field: the field that the program reads the period from, and takes ``period`` where it is absent.
        tied: it knows no head but the embedding matrix.
        sliding_depth: windows slide in models of so many layers, and in no others; 0 supposes nothing.
        scaled_depth: attention scores are divided by the square root of ``hidden_size / num_attention_heads`` in models
            of so many layers, in others by that of ``head_dim``; 0 supposes nothing.
    """

    program: str
    period: int = 0
    begins: bool = False
    listed: str = "layer_types"
    marked: Any = "full_attention"
    period_field: str | None = None
    tied: bool = False
    sliding_depth: int = 0
    scaled_depth: int = 0

    def supposes_wrongly(self, text: Mapping[str, Any]) -> Iterator[str]:
        """Yield what the program supposes and a model has not.

        Args:
            text: the configuration of the text model, with its per-layer lists.
        """
        kinds = text.get(self.listed)
        kinds = kinds if isinstance(kinds, list) else []
        if self.period and (wrong := self._wrong_period(kinds, text)):
            yield wrong
        depth = text.get("num_hidden_layers")
        if self.sliding_depth and "sliding_attention" in kinds and depth != self.sliding_depth:
            yield f"windows slide in models of {self.sliding_depth} layers alone"
        if self.scaled_depth and not self._scales_alike(text):
            yield f"attention is scaled in one way in models of {self.scaled_depth} layers and in another in all others"
        if self.tied and text.get("tie_word_embeddings") is False:
            yield "the head is the embedding matrix"

    def _wrong_period(self, kinds: list[Any], text: Mapping[str, Any]) -> str | None:
        if not self.period_field and not text.get("sliding_window") and all(kind == self.marked for kind in kinds):
            return None  # a type that can slide, in a model that does not
        period = text.get(self.period_field, self.period) if self.period_field else self.period
        if type(period) is not int or period < 1:
            period = self.period  # where it reads none, it fails
        elif marks(len(kinds), period, begins=self.begins) == [kind == self.marked for kind in kinds]:
            return None
        name = {"no_rope_layers": "without positions"}.get(self.listed, self.marked)
        return f"every {_ordinal(period)} layer is {name} and no other"

    def _scales_alike(self, text: Mapping[str, Any]) -> bool:
        hidden, heads, depth = (text.get(key) for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
        if type(hidden) is not int or type(heads) is not int or heads < 1:
            return True
        supposed = hidden // heads if depth == self.scaled_depth else text.get("head_dim", 256)
        return bool(supposed == text.get("query_pre_attn_scalar", 256))  # 256 is the default of Gemma's classes


_TIED_GEMMA = (Reader(MLX, tied=True), Reader(SGLANG, tied=True), Reader(VLLM, tied=True))
_LINEAR = (Reader(MLX, 4, period_field="full_attention_interval"),)

READERS: dict[str, tuple[Reader, ...]] = {
    "afmoe": (Reader(LLAMA_CPP, 4),),
    "cohere": (Reader(LLAMA_CPP, tied=True), Reader(MLX, tied=True), Reader(SGLANG, tied=True)),
    "cohere2": (Reader(LLAMA_CPP, 4, tied=True), Reader(MLX, 4, period_field="sliding_window_pattern", tied=True)),
    "exaone4": (Reader(LLAMA_CPP, sliding_depth=64),),
    "gemma": (Reader(LLAMA_CPP, tied=True), *_TIED_GEMMA),
    "gemma2": (Reader(LLAMA_CPP, 2, tied=True, scaled_depth=46), *_TIED_GEMMA),
    "gemma3_text": (
        Reader(LLAMA_CPP, 6, scaled_depth=62),
        Reader(MLX, 6, period_field="sliding_window_pattern"),
        Reader(SGLANG, tied=True),
    ),
    "gpt2": (Reader(MLX, tied=True), Reader(SGLANG, tied=True)),
    "gpt_oss": (Reader(LLAMA_CPP, 2),),
    "laguna": (Reader(LLAMA_CPP, 4, begins=True),),
    "llama4_text": (Reader(LLAMA_CPP, 4), Reader(LLAMA_CPP, 4, listed="no_rope_layers", marked=0)),
    "qwen3_5_moe_text": _LINEAR,
    "qwen3_5_text": _LINEAR,
    "qwen3_next": _LINEAR,
    "smollm3": (Reader(LLAMA_CPP, 4, listed="no_rope_layers", marked=0),),
}
"""By the type of the text model. A program that reads ``config.json`` as transformers does needs no row."""

PORTABLE_TO = {LLAMA_CPP, MLX}
"""The programs that a portable model is the same in; what others suppose of it is told all the same."""


def misreaders(config: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return what programs suppose wrongly of the model of a ``config.json`` with its per-layer lists: who, by what.

    Nothing is known of types and programs without a row here: that a model is not misread proves nothing for them.
    """
    section = config.get("text_config")
    text = {
        "tie_word_embeddings": config.get("tie_word_embeddings"),
        **(section if isinstance(section, dict) else config),
    }
    found: dict[str, tuple[str, ...]] = {}
    for reader in READERS.get(str(text.get("model_type")), ()):
        for supposed in reader.supposes_wrongly(text):
            found[supposed] = (*found.get(supposed, ()), reader.program)
    return found


def is_portable(config: Mapping[str, Any]) -> bool:
    """Tell whether neither llama.cpp nor MLX LM supposes anything wrong of a model (see :func:`misreaders`)."""
    return not any(PORTABLE_TO.intersection(programs) for programs in misreaders(config).values())


def told(known: Mapping[str, tuple[str, ...]]) -> str:
    """Return who supposes what, in words (see :func:`misreaders`)."""
    return "; ".join(
        f"{_listed(programs)} {'suppose' if len(set(programs)) > 1 else 'supposes'} that {supposed}"
        for supposed, programs in known.items()
    )


def marks(depth: int, period: int, *, begins: bool) -> list[bool]:
    """Return which of so many layers begin a period, or end one."""
    return [layer % period == (0 if begins else period - 1) for layer in range(depth)]


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10 if number // 10 % 10 != 1 else 0, 'th') }"


def _listed(programs: tuple[str, ...]) -> str:
    *most, last = dict.fromkeys(programs)
    return f"{', '.join(most)} and {last}" if most else last
