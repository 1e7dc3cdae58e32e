"""Losses on responses alone: against the long way, at any split of a step, in one process and in two."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import training as small
from loss_models import LAYERS, VOCABULARY, pair_of
from processes import in_two_processes
from tiny_types import tiny_config, tiny_model
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import IterableDataset
from transformers import PreTrainedModel

from boomerang_cli.engine.distillation import micro_batch, sharding
from boomerang_cli.engine.distillation.arguments import training_arguments
from boomerang_cli.engine.distillation.losses import distillation_loss
from boomerang_cli.engine.distillation.trainer import DistillationTrainer
from boomerang_cli.engine.distillation.vocabulary_loss import Counted
from boomerang_cli.engine.models.hidden_states import decoder_layers
from boomerang_cli.engine.models.position_scaling import positions_depend_on_length
from boomerang_cli.engine.processes.group import is_distributed, rank

RESPONSES = ((7, 2, 7), (9, 4, 6), (4, 3, 4), (9, 1, 9))
"""Of each conversation of a step: its length, and where its response begins and ends."""


def conversations() -> tuple[Tensor, Tensor, Tensor]:
    """Return ``input_ids`` and ``counted`` ``[4, 10]``, padded with what is no padding token, and lengths."""
    generator = torch.Generator().manual_seed(2)
    input_ids = torch.randint(3, VOCABULARY, (4, 10), generator=generator)
    counted = torch.zeros(4, 10, dtype=torch.bool)
    for row, (_, start, stop) in enumerate(RESPONSES):
        counted[row, start - 1 : stop - 1] = True
    return input_ids, counted, torch.tensor([length for length, _, _ in RESPONSES])


def long_way(student: PreTrainedModel, teacher: PreTrainedModel) -> Tensor:
    """The paper's formula, each conversation run alone and without padding, each part summed token by token."""
    input_ids, _, _ = conversations()
    parts: list[Tensor] = []
    for tokens, (length, start, stop) in zip(input_ids, RESPONSES, strict=True):
        ours, theirs = (model(tokens[None, :length], output_hidden_states=True) for model in (student, teacher))
        for at in range(start - 1, stop - 1):
            own, aim = (each.logits[0, at].log_softmax(-1) for each in (ours, theirs))
            distance = [
                1 - F.cosine_similarity(ours.hidden_states[s][0, at], theirs.hidden_states[t][0, at], dim=-1)
                for s, t in LAYERS.aligned_states
            ]
            kl = (aim.exp() * (aim - own)).sum()
            parts.append(-own[tokens[at + 1]] + 0.1 * kl + 2.0 * sum(distance) / len(distance))
    return torch.stack(parts).mean()


@pytest.mark.parametrize("family", ["gpt_neox", "gemma2", "opt"])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_any_split_of_a_step_gives_the_loss_and_gradients_of_the_long_way(family: str, rows: int) -> None:
    student, teacher = (model.double() for model in pair_of(family))
    teacher.requires_grad_(False)
    twin = copy.deepcopy(student)
    expected = long_way(twin, teacher)
    expected.backward()
    input_ids, counted, _ = conversations()
    pieces = list(zip(input_ids.split(rows), counted.split(rows), strict=True))
    share = counted.sum().item() / len(pieces)
    total = torch.zeros((), dtype=torch.float64)
    for tokens, at in pieces:
        loss = distillation_loss(student, teacher, LAYERS, tokens, counted=Counted(at, share)).total / len(pieces)
        loss.backward()
        total += loss.detach()
    torch.testing.assert_close(total, expected)
    for (name, parameter), other in zip(student.named_parameters(), twin.named_parameters(), strict=True):
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, other[1].grad)


def test_prompts_and_padding_are_not_projected() -> None:
    student, teacher = pair_of("llama")
    projected: list[int] = []
    original = F.linear
    input_ids, counted, _ = conversations()

    def linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.shape[0] == VOCABULARY:
            projected.append(values.shape[0])
        return original(values, weight, bias)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "linear", linear)
        distillation_loss(student, teacher, LAYERS, input_ids, counted=Counted(counted, 1.0))
    assert projected == [counted.sum(), counted.sum()]


@pytest.mark.parametrize("family", ["bloom", "falcon_h1", "lfm2", "mamba2", "nemotron_h", "opt", "qwen3_next", "rwkv"])
def test_padding_behind_is_not_seen_by_any_kind_of_layer(family: str) -> None:
    model = tiny_model(tiny_config(family), seed=1)
    tokens = torch.randint(3, 60, (2, 20), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        alone = model.base_model(input_ids=tokens[:1, :7], use_cache=False).last_hidden_state
        padded = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[:1, :7]
    torch.testing.assert_close(padded, alone, rtol=1e-3, atol=1e-4)


def test_positions_that_depend_on_the_length_are_known() -> None:
    llama = small.tied_llama(3)
    assert not positions_depend_on_length(llama)
    llama.config.rope_parameters = {"sliding": {"rope_type": "default"}, "full": {"rope_type": "longrope"}}
    assert positions_depend_on_length(llama)


# The training loop


class Conversations(IterableDataset[dict[str, Tensor]]):
    """A step's conversations, again and again, with random tokens."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(5)
        for step in range(100):
            _, counted, lengths = conversations()
            input_ids = torch.randint(small.VOCABULARY, (4, 10), generator=generator)
            for row in range(4):
                yield {
                    "input_ids": input_ids[row],
                    "counted": counted[row],
                    "length": lengths[row],
                    "position": torch.tensor([0, 4 * step + 4, 4 * step + 4, 0, 0]),
                }


RECIPE = replace(
    small.RECIPE, steps=2, sft_data=("x",), sft_steps=3, sft_batch_size=4, sft_sequence_length=10, sft_kl=False
)


def train(folder: Path, size: int) -> DistillationTrainer:
    torch.set_num_threads(1)
    device = training_arguments(RECIPE, folder).device  # connects the processes
    student, teacher = small.neox(3), small.neox(4)
    if is_distributed():
        for model in (student, teacher.requires_grad_(False)):
            sharding.shard(model, decoder_layers(model), device)
        student._is_distributed_loading_by_transformers = True
    trainer = small.make_trainer(
        folder,
        RECIPE,
        models=(student, teacher),
        texts=[small.Sequences(stop=8), Conversations()],
        micro_batch_size=size,
    )
    if is_distributed():
        trainer.args.dataloader_num_workers = 0
    trainer.go_on(None, {})
    return trainer


def seen_by(trainer: DistillationTrainer) -> dict[str, Any]:
    keys = ("loss", "cross_entropy", "kl", "cosine", "grad_norm", "learning_rate")
    log = [record for record in trainer.state.log_history if "loss" in record]
    return {"phases": trainer.standing.phases, **{key: [record[key] for record in log] for key in keys}}


def write_what_is_seen(folder: Path) -> None:
    seen = seen_by(train(folder, 1))
    if rank() == 0:
        torch.save(seen, folder / "seen.pt")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return seen_by(train(tmp_path_factory.mktemp("one"), 4))


def check_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.pop("phases") == {
        "text": {"steps": 2, "tokens": 64, "counted_tokens": 64},
        "sft": {"steps": 3, "tokens": 3 * 29, "counted_tokens": 3 * 16, "rows_cut": 0, "rows_left_out": 0},
    }
    for key, values in found.items():
        assert values == pytest.approx(expected[key], rel=1e-5), key


def test_both_phases_are_the_same_at_any_micro_batch_size(one: dict[str, Any], tmp_path: Path) -> None:
    check_same(seen_by(train(tmp_path, 1)), one)


def test_both_phases_are_the_same_in_two_processes(one: dict[str, Any], tmp_path: Path) -> None:
    in_two_processes(write_what_is_seen, tmp_path)
    check_same(torch.load(tmp_path / "seen.pt", weights_only=True), one)


def test_one_warm_up_and_one_schedule_run_over_both_phases_and_kl_over_one(one: dict[str, Any]) -> None:
    rates = [0.0, 0.005, 0.01, 0.0075, 0.0025]  # two steps of warm-up, then half a cosine over three
    assert one["learning_rate"] == pytest.approx(rates)
    assert [kl > 0 for kl in one["kl"]] == [True, True, False, False, False]


def test_auto_measures_each_phase_by_its_own_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batch, "CPU_TOKENS", 16)
    texts = [small.Sequences(), Conversations()]
    trainer = small.make_trainer(tmp_path, RECIPE, texts=texts, micro_batch_size="auto")
    assert [phase.sequence_length for phase in RECIPE.phases] == [8, 10]
    assert trainer.micro_batch_sizes == (2, 1)
