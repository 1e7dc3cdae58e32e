"""What a training computes: floating-point operations, counted from the shapes of tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.parts import Parts
from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.pair.layers import LayerMap

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_HIDDEN = ("hidden_size", "n_embd", "d_model")


@dataclass(frozen=True)
class ModelSize:
    """A model's sizes, as its headers and its configuration tell.

    Attributes:
        layers: the parameters of each layer.
        root: parameters of all else, a tied matrix counted once.
        multiplied: values of the layers' matrices that one token is multiplied by: of experts, the chosen ones'.
        head: values of the vocabulary projection.
        attention_width: heads times their size.
    """

    layers: tuple[int, ...]
    root: int
    multiplied: int
    head: int
    attention_width: int

    @classmethod
    def of(cls, parts: Parts, config: Mapping[str, Any], family: Family) -> ModelSize:
        share = _chosen_experts(config)
        outside = {**parts.before, **parts.after}
        head = outside[family.embedding if parts.tied else family.head]
        hidden = _first(config, _HIDDEN) or head.shape[-1]
        heads = _first(config, _HEADS)
        head_size = config.get("head_dim") or (hidden // heads if heads else hidden)
        return cls(
            layers=tuple(sum(each.parameters for each in layer.values()) for layer in parts.layers),
            root=sum(each.parameters for each in outside.values()),
            multiplied=round(
                sum(_multiplied(name, each, share) for layer in parts.layers for name, each in layer.items())
            ),
            head=head.parameters,
            attention_width=(heads or 1) * head_size,
        )

    @property
    def parameters(self) -> int:
        return sum(self.layers) + self.root


@dataclass(frozen=True)
class Flops:
    """Floating-point operations, of which a multiplication with an addition is two.

    Attributes:
        student, teacher: of the matrices of their layers.
        attention: of scores and weighted sums, in both.
        vocabulary: of the projections onto the vocabulary, in both.
        patched: of the teacher's layers that stand in for the student's in patched steps, less of those.
        recomputation: of the layers that gradient checkpointing runs again.
    """

    student: int = 0
    teacher: int = 0
    attention: int = 0
    vocabulary: int = 0
    patched: int = 0
    recomputation: int = 0

    @property
    def total(self) -> int:
        return sum(astuple(self))

    def __add__(self, other: Flops) -> Flops:
        return Flops(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    def times(self, count: int) -> Flops:
        return Flops(*(count * value for value in astuple(self)))

    def as_json(self) -> dict[str, int]:
        return {"total": self.total, **asdict(self)}


def flops_of(
    phase: Phase,
    student: ModelSize,
    teacher: ModelSize,
    layer_map: LayerMap,
    *,
    patched_share: float = 0.0,
    checkpointing: bool = False,
) -> Flops:
    """Return the operations of all steps of a phase.

    A token takes 2 a matrix's value in a forward pass and 4 in a backward pass (arXiv 2001.08361, section 2.1), so 6
    of the student's and 2 of the teacher's, which runs forward only. Attention adds 4 * layers * width * length
    forward and twice that backward (arXiv 2204.02311, appendix B); like there, what the causal mask leaves out is not
    taken off, nor is what a sliding window does. The embedding is looked up, the head multiplied. Where responses
    alone count in the losses, this is the most it can be: as if all tokens did.

    Args:
        patched_share: of the steps, those of a patched student: half of its patchable blocks are the teacher's on
            average, whose layers run forward and pass gradients on, 4 a value, and get none.
    """
    length, runs_teacher = phase.sequence_length, phase.kl or phase.cosine
    ours, theirs = _attention(student, length), _attention(teacher, length) * runs_teacher
    return Flops(
        student=6 * student.multiplied,
        teacher=2 * teacher.multiplied * runs_teacher,
        attention=3 * ours + theirs,
        vocabulary=6 * student.head * (phase.cross_entropy or phase.kl) + 2 * teacher.head * phase.kl,
        patched=round(patched_share * _patched(student, teacher, layer_map, length)),
        recomputation=(2 * student.multiplied + ours) * checkpointing,
    ).times(phase.steps * phase.tokens_per_step)


def _attention(model: ModelSize, length: int) -> int:
    """Return the operations of a token's attention in one forward pass."""
    return 4 * len(model.layers) * model.attention_width * length


def _patched(student: ModelSize, teacher: ModelSize, layer_map: LayerMap, length: int) -> float:
    """Return what a token's operations grow by, on average over all draws of the blocks of one step."""
    blocks, pruned = len(layer_map.patchable), len(layer_map.pruned)
    theirs, ours = (model.multiplied / len(model.layers) for model in (teacher, student))
    attention = 3 * 4 * teacher.attention_width * length
    return ((blocks + pruned) * 4 * theirs - blocks * 6 * ours + pruned * attention) / 2


def _multiplied(name: str, tensor: Tensor, chosen_share: float) -> float:
    if len(tensor.shape) < 2:  # norms and biases
        return 0
    return tensor.parameters * (chosen_share if ".experts." in f".{name}" else 1)


def _chosen_experts(config: Mapping[str, Any]) -> float:
    experts, chosen = _first(config, _EXPERTS), _first(config, _CHOSEN)
    return min(1.0, chosen / experts) if experts and chosen else 1.0


def _first(config: Mapping[str, Any], fields: tuple[str, ...]) -> int:
    """Return the first of the fields that holds a number; 0 if none does."""
    return next((config[field] for field in fields if isinstance(config.get(field), int)), 0)
