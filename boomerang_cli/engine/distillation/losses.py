"""The distillation loss: three formulas, and the same formulas chunk by chunk, so that logits never stand whole.

Loss a token (arXiv 2510.05064; FACTS.md 1): ``CE + kl_weight * tau^2 * KL(teacher || student) + cosine_weight / A *
sum over the A aligned states of (1 - cos)``. Each part is a mean over its real positions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from boomerang_cli.engine.errors import UnsupportedModelError
from boomerang_cli.engine.pair.layers import LayerMap

IGNORED_LABEL = -100
CPU_CHUNK_BYTES = 32 * 2**20
GPU_CHUNK_BYTES = 256 * 2**20


class DistillationLosses(NamedTuple):
    """Scalars on the device. ``total`` can be differentiated, the parts cannot; a part that is switched off is 0.

    Attributes:
        kl: tau^2 * KL, before its weight.
        cosine: the mean of 1 - cos over aligned states and real positions, before its weight.
    """

    total: Tensor
    cross_entropy: Tensor
    kl: Tensor
    cosine: Tensor


def distillation_loss(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    layer_map: LayerMap,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    kl_weight: float = 0.1,
    cosine_weight: float = 2.0,
    temperature: float = 1.0,
    cross_entropy: bool = True,
    kl: bool = True,
    cosine: bool = True,
    chunk_bytes: int | None = None,
) -> DistillationLosses:
    """Return the loss of one batch. What a part that is switched off would need is not computed.

    Args:
        input_ids: ``[batch, sequence]``.
        attention_mask: ``[batch, sequence]``, 1 at real positions; None means that all are.
        cosine_weight: the total over all aligned states.
        chunk_bytes: see ``vocabulary_loss``.
    """
    aligned = layer_map.aligned_states if cosine else ()
    teacher_states: dict[int, Tensor] = {}
    if kl or cosine:
        # Not inference mode: its tensors cannot be saved for the backward pass of the cosine loss, and copies of them
        # would cost more than the version counters that it saves.
        with torch.no_grad(), _without_needless_autocast(teacher):
            teacher_states = hidden_states_at(teacher, input_ids, attention_mask, [index for _, index in aligned])
    student_states = hidden_states_at(student, input_ids, attention_mask, [index for index, _ in aligned])

    zero = torch.zeros((), device=input_ids.device)
    losses = DistillationLosses(zero, zero, zero, zero)
    if cross_entropy or kl:
        losses = DistillationLosses(
            *vocabulary_loss(
                student_states[-1],
                Head.of(student),
                labels=next_token_labels(input_ids, attention_mask) if cross_entropy else None,
                teacher_hidden=teacher_states[-1] if kl else None,
                teacher_head=Head.of(teacher) if kl else None,
                attention_mask=attention_mask,
                kl_weight=kl_weight,
                temperature=temperature,
                chunk_bytes=chunk_bytes,
            ),
            cosine=zero,
        )
    if cosine:
        distance = cosine_loss(
            [student_states[index] for index, _ in aligned],
            [teacher_states[index] for _, index in aligned],
            attention_mask,
        )
        losses = losses._replace(total=losses.total + cosine_weight * distance, cosine=distance.detach())
    return losses


# The three losses, on whole tensors


def cross_entropy_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of ``-log softmax(logits)[label]`` over the labels that are not ignored (FACTS.md 1).

    Args:
        logits: ``[batch, sequence, vocabulary]``.
        labels: ``[batch, sequence]``, the token after each position, as ``next_token_labels`` makes them.
    """
    log_probabilities = token_log_probabilities(logits)
    shares = _shares(labels != IGNORED_LABEL, log_probabilities.dtype)
    return (token_cross_entropy(log_probabilities, labels) * shares).sum()


def kl_divergence_loss(
    student_logits: Tensor, teacher_logits: Tensor, attention_mask: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """Return the mean of ``tau^2 * KL(softmax(teacher / tau) || softmax(student / tau))`` over all real positions.

    FACTS.md 1; tau^2 keeps the size of the gradient (arXiv 1503.02531, section 2). The teacher gets no gradient.

    Args:
        student_logits, teacher_logits: ``[batch, sequence, vocabulary]``.
        attention_mask: ``[batch, sequence]``, 1 at real positions; None means that all are.
    """
    student = token_log_probabilities(student_logits, temperature)
    teacher = token_log_probabilities(teacher_logits.detach(), temperature)
    divergence = token_kl_divergence(student, teacher)
    return temperature**2 * (divergence * _shares(_real(divergence, attention_mask), divergence.dtype)).sum()


def cosine_loss(
    student_states: Sequence[Tensor], teacher_states: Sequence[Tensor], attention_mask: Tensor | None = None
) -> Tensor:
    """Return the mean over aligned states of the mean over real positions of ``1 - cos(student, teacher)``.

    FACTS.md 1; computed in float32. Beside the states as they are given, autograd keeps only a few numbers a token:
    ``F.cosine_similarity`` would keep a float32 copy of each of a half-precision teacher's.

    Args:
        student_states, teacher_states: one of ``[batch, sequence, hidden]`` for each aligned state.
        attention_mask: ``[batch, sequence]``, 1 at real positions; None means that all are.
    """
    losses = []
    for student_state, teacher_state in zip(student_states, teacher_states, strict=True):
        # Under autocast the student's states are float32 already, and a product is as wide as its wider factor.
        student, teacher = _at_least_float32(student_state), teacher_state.detach()
        norms = _norm(student) * _norm(teacher)
        distance = 1 - (student * teacher).sum(-1) / norms.clamp(min=1e-8)
        losses.append((distance * _shares(_real(distance, attention_mask), distance.dtype)).sum())
    return torch.stack(losses).mean()


def next_token_labels(input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Return the token after each position, ``[batch, sequence]``; ignored where either of the two is padding."""
    real = torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()
    follows = real & real.roll(-1, dims=1)
    follows[:, -1] = False
    return input_ids.roll(-1, dims=1).masked_fill(~follows, IGNORED_LABEL)


# The formulas a token, and the gradients of sum(share * loss) with respect to the logits


def token_log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    logits = _at_least_float32(logits)
    return F.log_softmax(logits if temperature == 1 else logits / temperature, dim=-1)


def token_cross_entropy(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    return -log_probabilities.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)


def _cross_entropy_gradient(log_probabilities: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
    """``softmax(logits) - onehot(label)``, written over the log-probabilities."""
    gradient = log_probabilities.exp_().mul_(shares.unsqueeze(-1))
    return gradient.scatter_add_(-1, labels.clamp(min=0).unsqueeze(-1), -shares.unsqueeze(-1))


def token_kl_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Of log-probabilities, before tau^2."""
    return (teacher - student).mul_(teacher.exp()).sum(-1)


def _kl_gradient(student: Tensor, teacher: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """``tau^2 * (softmax(student / tau) - softmax(teacher / tau)) / tau``; writes over the teacher's."""
    return student.exp().sub_(teacher.exp_()).mul_(temperature * shares.unsqueeze(-1))


def _shares(real: Tensor, dtype: torch.dtype) -> Tensor:
    """What each position weighs in the mean over the real ones; 0 everywhere if there are none."""
    weights = real.to(dtype)
    return weights / weights.sum().clamp(min=1)


def _real(positions: Tensor, attention_mask: Tensor | None) -> Tensor:
    return torch.ones_like(positions) if attention_mask is None else attention_mask.bool()


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _norm(states: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(states, dim=-1, dtype=torch.promote_types(states.dtype, torch.float32))
    return norm


# Cross entropy and KL from hidden states, chunk by chunk


class Head(NamedTuple):
    """What makes logits of the final hidden states: a projection, and the cap that some families put on it.

    Attributes:
        weight: ``[vocabulary, hidden]``.
        bias: ``[vocabulary]``.
        softcap: logits become ``softcap * tanh(logits / softcap)`` (Gemma 2).
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> Head:
        """Ask at each call: under FSDP2 the parameters inside of a forward pass are not those outside."""
        projection: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        return cls(projection.weight, projection.bias, getattr(model.config, "final_logit_softcapping", None))

    def in_autocast_dtype(self) -> Head:
        """Cast float32 parameters once, as autocast would once a chunk."""
        device_type = self.weight.device.type
        if not torch.is_autocast_enabled(device_type) or self.weight.dtype != torch.float32:
            return self
        dtype = torch.get_autocast_dtype(device_type)
        return self._replace(weight=self.weight.to(dtype), bias=None if self.bias is None else self.bias.to(dtype))

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``[tokens, vocabulary]``, at least float32, for ``[tokens, hidden]``; not to be differentiated."""
        logits = _at_least_float32(F.linear(hidden.to(self.weight.dtype), self.weight, self.bias))
        return logits if self.softcap is None else logits.div_(self.softcap).tanh_().mul_(self.softcap)

    def uncapped_gradient(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """Carry a gradient back through the cap, in place; consumes the logits."""
        return gradient if self.softcap is None else gradient.mul_(1 - logits.div_(self.softcap).square_())


@dataclass(frozen=True)
class _Targets:
    """What the student's logits of each token are compared with, and what each token weighs."""

    labels: Tensor | None
    label_shares: Tensor | None
    teacher_hidden: Tensor | None
    teacher_head: Head | None
    real_shares: Tensor
    kl_weight: float
    temperature: float

    def at(self, tokens: slice) -> _Targets:
        return replace(
            self,
            labels=None if self.labels is None else self.labels[tokens],
            label_shares=None if self.label_shares is None else self.label_shares[tokens],
            teacher_hidden=None if self.teacher_hidden is None else self.teacher_hidden[tokens],
            real_shares=self.real_shares[tokens],
        )


def vocabulary_loss(
    hidden: Tensor,
    head: Head,
    *,
    labels: Tensor | None,
    teacher_hidden: Tensor | None = None,
    teacher_head: Head | None = None,
    attention_mask: Tensor | None = None,
    kl_weight: float = 0.1,
    temperature: float = 1.0,
    chunk_bytes: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``CE + kl_weight * KL``, and both parts detached; the logits of the whole batch never stand in memory.

    A chunk of tokens is projected once for both losses and for both directions: its gradient is formed at once, and
    backward only scales it. Under autocast the projections run in the autocast dtype, everything else in float32.

    Args:
        hidden: the student's ``[batch, sequence, hidden]``, after the final norm.
        labels: ``[batch, sequence]``, as ``next_token_labels`` makes them; None switches cross entropy off.
        teacher_hidden: ``[batch, sequence, hidden]`` for ``teacher_head``; None switches KL off.
        chunk_bytes: what the float32 logits of one model may take in one chunk. About five times as much is held
            while a chunk is worked on.
    """
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    targets = _Targets(
        labels=None if labels is None else labels.flatten(),
        label_shares=None if labels is None else _shares(labels != IGNORED_LABEL, dtype).flatten(),
        teacher_hidden=None if teacher_hidden is None else teacher_hidden.flatten(0, 1),
        teacher_head=teacher_head and teacher_head.in_autocast_dtype(),
        real_shares=_shares(_real(hidden[..., 0].detach(), attention_mask), dtype).flatten(),
        kl_weight=kl_weight,
        temperature=temperature,
    )
    most_tokens = max(1, (chunk_bytes or _default_chunk_bytes(head)) // (4 * head.weight.shape[0]))
    with_gradient = torch.is_grad_enabled()  # inside of an autograd function it never says so
    total, cross_entropy, kl = _VocabularyLoss.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, 1), *head, targets, most_tokens, with_gradient
    )
    return total, cross_entropy, kl


def _default_chunk_bytes(head: Head) -> int:
    # A chunk costs a pass over the weight's gradient, so few tokens a chunk are slow. One fifth of that gradient's
    # size makes a chunk take as much memory as the gradient, which has to stand there anyhow.
    least = CPU_CHUNK_BYTES if head.weight.device.type == "cpu" else GPU_CHUNK_BYTES
    return max(least, 4 * head.weight.numel() // 5)


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        softcap: float | None,
        targets: _Targets,
        most_tokens: int,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Summed over chunks in float32, whatever the dtype of the parameter.
        gradients = _Gradients(
            *(
                torch.zeros_like(tensor, dtype=targets.real_shares.dtype)
                if tensor is not None and tensor.requires_grad and with_gradient
                else None
                for tensor in (hidden, weight, bias)
            )
        )
        head = Head(weight, bias, softcap).in_autocast_dtype()
        cross_entropy, kl = targets.real_shares.new_zeros(()), targets.real_shares.new_zeros(())
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), most_tokens):
                _add_chunk(slice(start, start + most_tokens), hidden, head, targets, (cross_entropy, kl), gradients)
        ctx.gradients = [
            None if gradient is None or tensor is None else gradient.to(tensor.dtype)
            for gradient, tensor in zip(gradients, (hidden, weight, bias), strict=True)
        ]
        ctx.mark_non_differentiable(cross_entropy, kl)
        return cross_entropy + targets.kl_weight * kl, cross_entropy, kl

    @staticmethod
    def backward(ctx: Any, scale: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the vocabulary loss can be differentiated once: its gradients are scaled in place")
        gradients, ctx.gradients = ctx.gradients, None  # so that the parameters can take them over without a copy
        return (*(gradient if gradient is None else gradient.mul_(scale) for gradient in gradients), *[None] * 4)


class _Gradients(NamedTuple):
    """Those that somebody needs, of what a chunk adds to."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


def _add_chunk(
    tokens: slice,
    hidden: Tensor,
    head: Head,
    targets: _Targets,
    losses: tuple[Tensor, Tensor],
    gradients: _Gradients,
) -> None:
    """Add the losses of some tokens, and what they do to the gradients, in place."""
    hidden = hidden[tokens].to(head.weight.dtype)
    logit_gradient = _chunk_gradient(head.logits(hidden), head, targets.at(tokens), losses)
    if not any(gradient is not None for gradient in gradients):
        return
    if gradients.bias is not None:
        gradients.bias.add_(logit_gradient.sum(0))
    logit_gradient = logit_gradient.to(head.weight.dtype)
    if gradients.hidden is not None:
        gradients.hidden[tokens] = logit_gradient @ head.weight
    if gradients.weight is not None and gradients.weight.dtype == hidden.dtype:
        gradients.weight.addmm_(logit_gradient.t(), hidden)
    elif gradients.weight is not None:
        gradients.weight.add_(logit_gradient.t() @ hidden)


def _chunk_gradient(logits: Tensor, head: Head, targets: _Targets, losses: tuple[Tensor, Tensor]) -> Tensor:
    """Add the losses of a chunk in place, and return their gradient with respect to its logits before the cap."""
    cross_entropy, kl = losses
    log_probabilities = token_log_probabilities(logits)
    gradient: Tensor | None = None
    if targets.teacher_hidden is not None and targets.teacher_head is not None:
        student = (
            log_probabilities if targets.temperature == 1 else token_log_probabilities(logits, targets.temperature)
        )
        teacher = token_log_probabilities(targets.teacher_head.logits(targets.teacher_hidden), targets.temperature)
        shares = targets.real_shares
        kl.add_((token_kl_divergence(student, teacher) * shares).sum(), alpha=targets.temperature**2)
        gradient = _kl_gradient(student, teacher, targets.kl_weight * shares, targets.temperature)
    if targets.labels is not None and targets.label_shares is not None:
        cross_entropy.add_((token_cross_entropy(log_probabilities, targets.labels) * targets.label_shares).sum())
        second = _cross_entropy_gradient(log_probabilities, targets.labels, targets.label_shares)
        gradient = second if gradient is None else gradient.add_(second)
    assert gradient is not None
    return head.uncapped_gradient(gradient, logits)


# Hidden states


def hidden_states_at(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None, indices: Collection[int]
) -> dict[int, Tensor]:
    """Run the model's body and return some of its ``hidden_states``, ``[batch, sequence, hidden]`` each, by index.

    Numbered as transformers does: j is the input of layer j, -1 the output of the final norm, which is always there.
    The others are dropped as the layers run, which ``output_hidden_states=True`` does not do.
    """
    states: dict[int, Tensor] = {}

    def keep_input(index: int) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states[index] = args[0] if args else kwargs["hidden_states"]

        return hook

    layers = decoder_layers(model)
    hooks = [
        layers[index].register_forward_pre_hook(keep_input(index), with_kwargs=True) for index in indices if index >= 0
    ]
    try:
        output = model.base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return states | {-1: output.last_hidden_state}


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the list of the model's layers.

    Raises:
        UnsupportedModelError: no list of modules is as long as the model is deep.
    """
    depth = model.config.num_hidden_layers
    for module in model.base_model.modules():  # parents first: the list of layers comes before what is in the layers
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise UnsupportedModelError(f"{type(model).__name__} holds no list of {depth} layers")


def _without_needless_autocast(model: PreTrainedModel) -> torch.autocast:
    """Half-precision weights need no autocast: it would only widen their norms and residuals to float32."""
    device_type = model.device.type
    enabled = torch.is_autocast_enabled(device_type) and model.dtype == torch.float32
    return torch.autocast(device_type, enabled=enabled)
