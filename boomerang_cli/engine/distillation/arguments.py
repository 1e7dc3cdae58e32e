"""The recipe in the words of transformers' Trainer."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import torch
from transformers import TrainingArguments

from boomerang_cli.engine.distillation.device import has_accelerator, has_bfloat16
from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.errors import TrainingError

REPORTERS = ("none", "tensorboard", "wandb", "trackio")


def training_arguments(
    recipe: Recipe, folder: Path, *, report_to: str = "none", levers: Levers | None = None
) -> TrainingArguments:
    """Return Trainer's arguments for ``recipe``, but for the micro-batch size; processes are connected on the way."""
    name = folder.name.removesuffix(".training")
    if report_to == "tensorboard":  # by default it logs into the folder, which goes when the student is written
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder.with_name("runs") / name))
    if report_to == "wandb":
        os.environ.setdefault("WANDB_PROJECT", "boomerang")
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=recipe.total_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        adam_beta1=0.9,
        adam_beta2=0.95,
        adam_epsilon=1e-8,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        use_cpu=not has_accelerator(),
        bf16=has_bfloat16(torch.device("cuda")) if torch.cuda.is_available() else False,
        logging_steps=max(1, recipe.total_steps // 100),
        logging_nan_inf_filter=False,  # it would wait for the device after each micro-batch, and hide what is wrong
        save_strategy="no",  # step_end.py decides when to save, to evaluate and to stop, for all processes
        eval_strategy="no",
        ignore_data_skip=True,  # the text goes on from a position, nothing is read twice
        remove_unused_columns=False,
        dataloader_num_workers=1,  # tokenises while the models compute; one keeps the order of the text
        # Rank 0 reads, the others get slices of each batch: the same sequences at any number of processes.
        accelerator_config={"dispatch_batches": True},
        disable_tqdm=True,
        report_to=report_to,
        run_name=name,
        project="boomerang",
        log_level="error",
        log_level_replica="error",
        **(levers or Levers()).trainer_options,
    )
    arguments.trackio_static_space_id = False  # else trackio publishes the run, where its version can
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # more GPUs than processes: Trainer would split the model's input over threads
    return arguments


def check_reporter(report_to: str) -> None:
    """Refuse a tracker that is unknown or not installed.

    Raises:
        TrainingError: names the package to install.
    """
    if report_to not in REPORTERS:
        raise TrainingError(f"--report-to {report_to} is unknown: give one of {', '.join(REPORTERS)}", usage=True)
    if report_to != "none" and importlib.util.find_spec(report_to) is None:
        raise TrainingError(f"--report-to {report_to} needs the package {report_to}: `pip install {report_to}`")
