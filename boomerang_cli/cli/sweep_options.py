"""The options of ``boomerang sweep``, by the panels of its help."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from boomerang_cli.cli import complete, options, panels
from boomerang_cli.engine.evaluation.asked import NEW_TOKENS

# Size

Layers = Annotated[
    options.Numbers | None,
    typer.Option(
        parser=options.numbers,
        metavar="1,2,5-8",
        help="Which sizes, by k: how many blocks are patched. [default: all]",
        rich_help_panel=panels.SIZE,
    ),
]

# Text

_text = partial(typer.Option, rich_help_panel=panels.TEXT)

Data = Annotated[
    list[str] | None,
    _text(
        parser=options.text,
        metavar="TEXT",
        help="Text to score on, as distill reads it: a file, a folder of them, or a Hub dataset; repeatable. "
        "[default: what the student's distillation was evaluated on]",
    ),
]
Sequences = Annotated[int, _text(help="Windows of text to score on, at most.")]
SequenceLength = Annotated[
    int | None, _text(help="Tokens in a window. [default: as many as the teacher takes, 2048 at most]")
]
Stride = Annotated[
    int | None,
    _text(
        help="Tokens from the beginning of one window to that of the next. With fewer than a window has, windows "
        "overlap: each token is scored once, with more text before it, and scoring takes longer. "
        "[default: the window's length]"
    ),
]

# Search

_search = partial(typer.Option, rich_help_panel=panels.SEARCH)

Order = Annotated[
    list[str] | None,
    _search(
        metavar="ORDER",
        help="auto (what the student records, else the family's); last, first: blocks from the end, from the start; "
        "greedy: at each size the block that helps most; exact: at each size the best set of blocks, whatever the "
        "others hold; nested: the best sets that grow by one block a size; or an order file. Several, as first,last or "
        "repeated, are compared. [default: auto]",
        autocompletion=complete.orders_to_sweep,
    ),
]
Calibration = Annotated[
    list[str] | None,
    _search(parser=options.text, metavar="TEXT", help="Text to search orders on. [default: the beginning of --data]"),
]
CalibrationSequences = Annotated[int, _search(help="Windows to search orders on, at most.")]
Beam = Annotated[
    int,
    _search(
        help="How many sets of blocks greedy keeps at each size, to try the next block with: more find better ones, "
        "and take longer."
    ),
]
Yes = Annotated[bool, _search("--yes", "-y", help="Search exact however long it takes.")]

# Scores

_scores = partial(typer.Option, rich_help_panel=panels.SCORES)

Baseline = Annotated[
    bool, _scores("--baseline", help="Score the never-distilled student's sizes, too (naive pruning).")
]
Speed = Annotated[bool, _scores("--speed", help="Measure tokens read and written a second, and GPU memory.")]
Prompt = Annotated[
    list[str] | None,
    _scores(
        metavar="TEXT",
        help=f"Have every size continue this, greedily, at most {NEW_TOKENS} tokens, as a chat where the teacher "
        "has a template; repeatable. See samples.md.",
    ),
]

# Bounds

_bounds = partial(typer.Option, rich_help_panel=panels.BOUNDS)

MaxPerplexity = Annotated[float | None, _bounds(help="Exit with 1 if a size has a higher perplexity.")]
MaxKl = Annotated[
    float | None, _bounds(help="Exit with 1 if a size is farther from the teacher, in nats a token (KL divergence).")
]

# Tasks

_tasks = partial(typer.Option, rich_help_panel=panels.TASKS)

Tasks = Annotated[str | None, _tasks(metavar="TASK,...", help="What to run (pip install 'boomerang-cli[eval]').")]
Limit = Annotated[int | None, _tasks(help="Examples of each task. [default: all]")]
NumFewshot = Annotated[int | None, _tasks(help="Examples in the context. [default: the task's]")]
IncludePath = Annotated[
    Path | None, _tasks(parser=options.home, metavar="FOLDER", help="Definitions of your own tasks for lm-eval.")
]
ApplyChatTemplate = Annotated[
    bool, _tasks("--apply-chat-template", help="Put tasks as chats, by the teacher's template, as lm-eval does.")
]
SystemInstruction = Annotated[str | None, _tasks(metavar="TEXT", help="What a chat begins with, in tasks and prompts.")]
GenKwargs = Annotated[
    str | None,
    _tasks(
        metavar="NAME=VALUE,...",
        help="How tasks generate, as lm-eval takes it: temperature=0.7,top_p=0.8,do_sample=True, or a JSON object.",
    ),
]
FewshotAsMultiturn = Annotated[
    bool | None,
    _tasks(
        "--fewshot-as-multiturn/--no-fewshot-as-multiturn",
        help="Examples in the context are turns of the chat. [default: with --apply-chat-template]",
    ),
]

# Hardware

_hardware = partial(typer.Option, rich_help_panel=panels.HARDWARE)

BatchSize = Annotated[str, _hardware(metavar="auto|N", help="Windows, and examples of tasks, at once.")]
DType = Annotated[
    options.DTypeName, _hardware(help="Type of the computation. auto: bfloat16 on a GPU, float32 on a CPU.")
]
Device = Annotated[str, _hardware(metavar="auto|cpu|cuda", help="Where to compute.", autocompletion=complete.devices)]
Gpus = Annotated[
    int | None,
    _hardware(
        help="GPUs of this machine to share the work, or to plan for: a process for each that holds both models, else "
        "their layers spread over as many as it takes. Text and sets of blocks are shared out; a task or a prompt of "
        "one model runs whole in one process. [default: 1]"
    ),
]
GpuMemory = Annotated[
    str | None,
    _hardware(help="With --dry-run, memory of each GPU, as 80GB. [default: this machine's]", metavar="SIZE"),
]

# Output

_output = partial(typer.Option, rich_help_panel=panels.OUTPUT)

Write = Annotated[bool, _output("--write", help="Write each model to OUTPUT/<depth>L.")]
Overwrite = Annotated[bool, _output("--overwrite", help="Replace an earlier sweep.")]
DryRun = Annotated[
    bool, _output("--dry-run", help="Print the sizes, and which GPUs and processes would score them; score nothing.")
]
