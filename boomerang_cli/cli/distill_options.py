"""The options of ``boomerang distill``, by the panels of its help."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from boomerang_cli.cli import complete, options, panels
from boomerang_cli.engine.distillation.recipe import DEFAULT_DATA
from boomerang_cli.engine.distillation.recipes import RECIPES, default_of


class Columns(tuple[str, ...]):
    """Names as ``_columns`` parses them; a plain list would make Typer take the option several times."""


def _columns(text: str) -> Columns:
    names = Columns(name.strip() for name in text.split(","))
    if not 1 <= len(names) <= 2 or not all(names):
        raise typer.BadParameter(f"{text!r} is neither PROMPT,RESPONSE nor one column of messages")
    return names


def _auto_or_number(text: str) -> str | int:
    if text == "auto":
        return text
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither auto nor a number of sequences")
    return int(text)


def _adapt(key: str) -> str:
    return f"adapt: {RECIPES['adapt'][key]}"


def _of_recipe(panel: str, what: str, key: str, **more: Any) -> Any:
    """Return an option whose default is the recipe's."""
    return typer.Option(help=f"{what} [default: {default_of(key)}]", rich_help_panel=panel, **more)


StudentInit = Annotated[
    str,
    typer.Argument(
        parser=options.text,
        help="The student to distil, or a size to heal: a folder or owner/name[@revision].",
        metavar="STUDENT_INIT",
        autocompletion=complete.models,
    ),
]

OutputFolder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        parser=options.home,
        help="Folder to write. [default: student; NAME-trained of a NAME that was trained or patched before]",
        metavar="FOLDER",
        rich_help_panel=panels.OUTPUT,
    ),
]

# Data

_data = partial(typer.Option, rich_help_panel=panels.DATA)
_chats = partial(typer.Option, rich_help_panel=panels.CHATS)

Data = Annotated[
    list[str] | None,
    _data(
        help="Text: a Hub dataset (owner/name[:config[:split]][@revision]), a .txt, .jsonl, .json, .csv or "
        ".parquet file, also .gz, .bz2, .xz or .zst, or a folder of them; repeatable. "
        f"[default: {DEFAULT_DATA[0]}]",
        parser=options.text,
        metavar="TEXT",
    ),
]
TextColumn = Annotated[
    str | None, _data(help="The column that holds the text, in rows. [default: text]", metavar="COLUMN")
]
EvalData = Annotated[
    list[str] | None,
    _data(
        help="Text for the held-out perplexity; repeatable. [default: a Hub dataset's first documents]",
        parser=options.text,
        metavar="TEXT",
    ),
]
EvalEvery = Annotated[int | None, _data(help="Steps between held-out perplexities. [default: a tenth of all steps]")]
Repeat = Annotated[bool, _data("--repeat", help="Read a text that is too short again.")]
Seed = Annotated[
    int | None,
    _of_recipe(panels.DATA, "Number that the order of the text, and what --patched-share draws, follow from.", "seed"),
]

# Conversations

SftData = Annotated[
    list[str] | None,
    _chats(
        help="Conversations, of which only the responses count: as --data, but for .txt, with rows of messages, "
        "prompt/completion, input/output or question/answer; repeatable. The teacher's chat template writes them, "
        f"one a sequence. [default: none; adapt: {RECIPES['adapt']['sft_data'][0]}]",
        parser=options.text,
        metavar="ROWS",
    ),
]
SftColumns = Annotated[
    Columns | None,
    _chats(
        parser=_columns,
        help="Columns of prompt and response, or the one of messages, where they have other names.",
        metavar="PROMPT,RESPONSE",
    ),
]
SftSteps = Annotated[
    int | None,
    _of_recipe(panels.CHATS, "Steps on conversations, after those on text; one schedule runs over both.", "sft_steps"),
]
SftBatchSize = Annotated[
    int | None, _chats(help=f"Conversations a step. [default: --batch-size; {_adapt('sft_batch_size')}]")
]
SftSequenceLength = Annotated[
    int | None,
    _chats(
        help="Tokens of a conversation; longer ones are cut. "
        f"[default: --sequence-length; {_adapt('sft_sequence_length')}]"
    ),
]
SftNoKl = Annotated[bool, _chats("--sft-no-kl", help="Leave out the KL divergence on conversations.")]

# Recipe

_in_recipe = partial(_of_recipe, panels.RECIPE)

Recipe = Annotated[
    str,
    typer.Option(
        help="paper: the published students', on text; adapt: for post-trained teachers, on text and then on "
        "conversations, with cosine 10; between: for the models in between, with --patched-share and --alignment. "
        "Other options override its values, --dry-run prints them.",
        metavar="|".join(RECIPES),
        rich_help_panel=panels.RECIPE,
        autocompletion=complete.one_of(*RECIPES),
    ),
]
Steps = Annotated[int | None, _in_recipe("Steps of the optimiser on text.", "steps")]
BatchSize = Annotated[int | None, _in_recipe("Sequences a step, over all GPUs.", "batch_size")]
SequenceLength = Annotated[int | None, _in_recipe("Tokens a sequence.", "sequence_length")]
LearningRate = Annotated[
    float | None, _in_recipe("The highest learning rate, which is reached after the warm-up.", "learning_rate")
]
WarmupRatio = Annotated[
    float | None,
    _in_recipe("Share of the steps in which the learning rate rises; then it falls as a cosine.", "warmup_ratio"),
]
WeightDecay = Annotated[
    float | None, _in_recipe("How strongly the optimiser (AdamW) pulls weights towards 0.", "weight_decay")
]
MaxGradNorm = Annotated[
    float | None, _in_recipe("Longest gradient of a step; a longer one is shortened to it.", "max_grad_norm")
]
PatchedShare = Annotated[
    float | None,
    _in_recipe(
        "Share of the steps, from 0 to 1, that train the student as a part of a model in between: some blocks are "
        "the teacher's there, others in each step. Models in between come out better, the student itself worse.",
        "patched_share",
    ),
]

# Losses

_losses = partial(typer.Option, rich_help_panel=panels.LOSSES)
_of_losses = partial(_of_recipe, panels.LOSSES)

KlWeight = Annotated[
    float | None,
    _of_losses("How much it counts that the student predicts as the teacher does (KL divergence).", "kl_weight"),
]
CosineWeight = Annotated[
    float | None,
    _of_losses(
        "How much it counts, over all layers together, that what leaves a layer of the student points where what "
        "leaves its block of the teacher does (cosine distance of hidden states).",
        "cosine_weight",
    ),
]
Temperature = Annotated[
    float | None,
    _of_losses(
        "Both models' predictions are divided by it before the KL divergence: above 1, unlikely tokens count more.",
        "temperature",
    ),
]
Alignment = Annotated[
    Literal["cosine", "relative"] | None,
    _of_losses(
        "What is compared of hidden states: their directions (cosine), or also their lengths, as the squared error "
        "relative to the teacher's (relative).",
        "alignment",
    ),
]
NoCrossEntropy = Annotated[bool, _losses("--no-cross-entropy", help="Leave out the loss on the text itself.")]
NoKl = Annotated[bool, _losses("--no-kl", help="Leave out the KL divergence.")]
NoCosine = Annotated[bool, _losses("--no-cosine", help="Leave out the loss on hidden states.")]

# Hardware

_hardware = partial(typer.Option, rich_help_panel=panels.HARDWARE)

Gpus = Annotated[
    int | None,
    _hardware(help="Train on so many GPUs of this machine, or plan for so many. [default: one, or torchrun's]"),
]
MicroBatchSize = Annotated[
    str, _hardware(parser=_auto_or_number, metavar="auto|N", help="Sequences that run at once on each GPU.")
]
GradientCheckpointing = Annotated[
    bool,
    _hardware(
        "--gradient-checkpointing",
        help="Keep one state a layer, and compute the rest again: much less memory for long sequences, about a "
        "quarter more time. The same losses.",
    ),
]
Optimizer = Annotated[
    str,
    _hardware(
        help="adamw-8bit keeps 2 bytes a trained parameter, not 8; losses differ a little. In one process; "
        "needs boomerang-cli[low-memory], and compiles for a minute.",
        metavar="adamw|adamw-8bit",
        autocompletion=complete.one_of("adamw", "adamw-8bit"),
    ),
]
Offload = Annotated[
    bool,
    _hardware(
        "--offload",
        help="Keep the student's weights, gradients and optimiser in host memory: 16 bytes a parameter less on the "
        "GPUs, which wait for the bus and for the CPU's optimiser. With --gpus 2 or more.",
    ),
]
Attention = Annotated[
    str | None,
    _hardware(
        help="How both models compute attention, as transformers names it: eager, sdpa, flex_attention, "
        "flash_attention_2 or _3. eager needs memory that grows with the square of the length. "
        "[default: transformers' choice, sdpa]",
        metavar="NAME",
        autocompletion=complete.one_of("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"),
    ),
]
Compile = Annotated[
    bool,
    _hardware(
        "--compile",
        help="Compile each layer: fewer passes over memory, a minute or more before the first step, and a C++ "
        "compiler. Losses differ by rounding.",
    ),
]

# Plan

_plan = partial(typer.Option, rich_help_panel=panels.PLAN)

DryRun = Annotated[
    bool,
    _plan("--dry-run", help="Print what would be written, and what training needs: operations, memory, GPUs."),
]
GpuMemory = Annotated[
    str | None,
    _plan(help="With --dry-run, memory of each GPU, as 80GB. [default: this machine's]", metavar="SIZE"),
]
TokensPerSecond = Annotated[float | None, _plan(help="With --dry-run, how fast all GPUs train, for the hours.")]
Measure = Annotated[bool, _plan("--measure", help="With --dry-run, measure that here, for 20 seconds.")]

# Output

_output = partial(typer.Option, rich_help_panel=panels.OUTPUT)

SaveEvery = Annotated[int | None, _output(help="Steps between checkpoints. [default: every ten minutes]")]
Yes = Annotated[bool, _output("--yes", "-y", help="Train even if that takes over half an hour on a CPU.")]
Resume = Annotated[bool, _output("--resume", help="Go on from the newest checkpoint.")]
ReportTo = Annotated[
    Literal["none", "tensorboard", "wandb", "trackio"], _output(help="Tracker that gets the losses too.")
]
