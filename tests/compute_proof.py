"""The proof that models can be run in parts: what `sweep` and `distill` compute, against models that run whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from family_proof import InexactError, disturb, draw_tokens, load
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel

from boomerang_cli.engine.distillation.losses import distillation_loss
from boomerang_cli.engine.evaluation.agreement import check_stages
from boomerang_cli.engine.evaluation.scoring import Scorer, summarise
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.models.agreement import check_parts
from boomerang_cli.engine.models.compose import LoadedPair, load_pair
from boomerang_cli.engine.models.hidden_states import body_of, decoder_layers
from boomerang_cli.engine.models.patched_student import PatchedStudents
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.patch import patch

KEPT = (0, 2, 4, 5, 7)
ENDS = ((0,), (3,))
"""Blocks at either end: the teacher's embedding before the student's head, and the reverse."""
BLOCKS = (1,)
"""Those that are patched in the model between."""
_DIVIDED, _CAPPED = {"logits_scaling": 4.0}, {"final_logit_softcapping": 2.0}
SCALED: dict[str, dict[str, Any]] = {
    "granite": _DIVIDED, "granitemoe": _DIVIDED, "granitemoeshared": _DIVIDED, "granitemoehybrid": _DIVIDED,
    "granite_swa": _DIVIDED, "granitemoe_swa": _DIVIDED, "hyperclovax": _DIVIDED,
    "falcon_h1": {"lm_head_multiplier": 0.5}, "recurrent_gemma": {"logits_soft_cap": 2.0},
    **dict.fromkeys(
        ("gemma2", "gemma3_text", "gemma4_text", "gemma4_unified_text", "nanochat", "vaultgemma"), _CAPPED
    ),
}  # fmt: skip
"""What types do to logits after the head, where their class does nothing by default."""
AFTER_LAYERS = {"mamba", "mamba2", "falcon_mamba"}
"""Types whose ``hidden_states`` are what leaves each layer, not what enters it."""


def open_loaded(teacher: Path) -> LoadedPair:
    """Load a teacher, and a student of it with weights of its own."""
    student = teacher.parent / "student"
    init_student(teacher, output=student, keep=KEPT)
    disturb(student)
    return load_pair(open_pair(student), dtype=torch.float32)


def check_distilled(loaded: LoadedPair) -> None:
    """Compare the losses and the student's gradients with those of whole models.

    Raises:
        UnsupportedModelError: the type is refused.
        InexactError: something differs.
    """
    layer_map = loaded.pair.layer_map
    student, teacher = loaded.models["student"], loaded.models["teacher"]
    check_parts(teacher, layer_map.teacher_layers, "it")
    check_parts(student, layer_map.student_layers, "it")
    found = _with_gradients(student, lambda: tuple(distillation_loss(student, teacher, layer_map, draw_tokens())))
    expected = _with_gradients(student, lambda: _plain_losses(student, teacher, layer_map))
    for part, ours, theirs in zip(("total", "cross entropy", "KL", "cosine"), found[0], expected[0], strict=True):
        _compare(part, ours, theirs)
    for name, theirs in expected[1].items():
        _compare(f"the gradient of {name}", found[1].get(name, torch.zeros_like(theirs)), theirs)


def check_patched(loaded: LoadedPair) -> None:
    """Compare the losses of models in between that are trained, and the student's gradients, with written folders'.

    Errors are those of :func:`check_distilled`.
    """
    pair, teacher, students = loaded.pair, loaded.models["teacher"], PatchedStudents(loaded)
    for blocks in ENDS:
        folder = pair.student.folder.parent / f"trained-{blocks[0]}"
        patch(blocks=blocks, student=pair.student.folder, output=folder)
        written = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()  # attends as the pair does
        model = students.model(blocks)
        loss = partial(distillation_loss, model, teacher, pair.layer_map, draw_tokens(), patched=blocks)
        found = _with_gradients(loaded.models["student"], lambda loss=loss: tuple(loss()), seen_in=model)
        plain = partial(_plain_losses, written, teacher, pair.layer_map, blocks)
        expected = _with_gradients(written, plain)
        for part, ours, theirs in zip(("total", "cross entropy", "KL", "cosine"), found[0], expected[0], strict=True):
            _compare(f"{part} of {blocks}", ours, theirs)
        if not found[1].keys() <= expected[1].keys():
            raise InexactError(f"gradients of {found[1].keys() - expected[1].keys()} in {blocks}")
        for name, ours in found[1].items():
            _compare(f"the gradient of {name} in {blocks}", ours, expected[1][name])


def check_scored(loaded: LoadedPair) -> None:
    """Compare a sweep's rows with whole models: the pair's, and the folder that `patch` writes of one between.

    Errors are those of :func:`check_distilled`.
    """
    check_stages(loaded)
    pair, ids = loaded.pair, draw_tokens(2, 13)
    windows = Windows(ids[:, :-1], ids[:, 1:])
    variants = [Variant(blocks) for blocks in ((), BLOCKS, pair.layer_map.patchable)]
    rows = Scorer(loaded).score(variants, windows, range(len(windows)))
    folder = pair.student.folder.parent / "between"
    patch(blocks=BLOCKS, student=pair.student.folder, output=folder, verify=True)
    models = [loaded.models["student"], load(folder), loaded.models["teacher"]]
    expected = _log_probabilities(models[-1], windows)
    for variant, model in zip(variants, models, strict=True):
        found, score = _log_probabilities(model, windows), summarise(rows[variant], windows.tokens)
        perplexity = F.nll_loss(found, windows.labels.flatten()).exp()
        _compare(f"the perplexity of {variant.key}", torch.tensor(score.perplexity), perplexity)
        kl = F.kl_div(found, expected, log_target=True, reduction="batchmean")
        _compare(f"the KL of {variant.key}", torch.tensor(score.kl), kl)


@torch.no_grad()
def _log_probabilities(model: PreTrainedModel, windows: Windows) -> torch.Tensor:
    return F.log_softmax(model(windows.input_ids, use_cache=False).logits.double().flatten(0, 1), -1)


def _with_gradients(
    student: PreTrainedModel,
    losses: Callable[[], tuple[torch.Tensor, ...]],
    seen_in: PreTrainedModel | None = None,
) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """Return the losses, and what the first of them does to the student's parameters, by their names in ``seen_in``."""
    student.requires_grad_(True)
    student.zero_grad(set_to_none=True)
    found = losses()
    found[0].backward()
    parameters = (seen_in or student).named_parameters()
    gradients = {name: each.grad.clone() for name, each in parameters if each.grad is not None}
    student.requires_grad_(False)
    return tuple(each.detach() for each in found), gradients


def _plain_losses(
    student: PreTrainedModel, teacher: PreTrainedModel, layer_map: LayerMap, patched: tuple[int, ...] = ()
) -> tuple[torch.Tensor, ...]:
    """Return the total and its parts as the paper writes them, of whole logits and all hidden states."""
    ours, our_states = _whole(student, len(layer_map.sources(patched)))
    with torch.no_grad():
        theirs, their_states = _whole(teacher, layer_map.teacher_layers)
    cross_entropy = F.cross_entropy(ours[:, :-1].flatten(0, 1), draw_tokens()[:, 1:].flatten())
    logs = [F.log_softmax(logits.flatten(0, 1), -1) for logits in (ours, theirs)]
    kl = F.kl_div(*logs, log_target=True, reduction="batchmean")
    aligned = [(our_states[i], their_states[j]) for i, j in layer_map.states_at_blocks(patched)]
    cosine = torch.stack([(1 - F.cosine_similarity(one, other, dim=-1)).mean() for one, other in aligned]).mean()
    return cross_entropy + 0.1 * kl + 2.0 * cosine, cross_entropy, kl, cosine


def _whole(model: PreTrainedModel, depth: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return logits, and what enters each layer and leaves the body; transformers says so of most types."""
    heard: list[torch.Tensor] = []

    def listen(layer: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
        heard.append(args[0] if args else kwargs["hidden_states"])

    hooks = [layer.register_forward_pre_hook(listen, with_kwargs=True) for layer in decoder_layers(model, depth)]
    output = model(draw_tokens(), use_cache=False, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    if output.hidden_states is None or model.config.model_type in AFTER_LAYERS:
        return output.logits, [*heard, body_of(model)(input_ids=draw_tokens(), use_cache=False).last_hidden_state]
    return output.logits, list(output.hidden_states)


def _compare(what: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    if not torch.allclose(
        found.double(), expected.double(), rtol=2e-4, atol=2e-5 * max(1.0, expected.abs().max().item())
    ):
        raise InexactError(f"{what} differs by {(found - expected).abs().max().item():.2g}")
