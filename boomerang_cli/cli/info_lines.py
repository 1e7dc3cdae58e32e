"""What ``info`` found, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from boomerang_cli.cli.error_line import harmless
from boomerang_cli.cli.sweep_text import sweep_text
from boomerang_cli.cli.table import table
from boomerang_cli.engine.distillation.training_info import TrainingInfo
from boomerang_cli.engine.evaluation.rows import SweepRow
from boomerang_cli.engine.evaluation.sweep_info import SweepInfo
from boomerang_cli.engine.info import Info
from boomerang_cli.engine.output.sizes import Size
from boomerang_cli.engine.publishing.model_info import ModelInfo
from boomerang_cli.engine.publishing.record import LayerOrigin, Origin
from boomerang_cli.engine.sizes import show_bytes, show_count

_WHAT = {
    "teacher": "a model that can be a teacher",
    "student-init": "a student before distillation",
    "student": "a student",
    "patched": "a patched model",
}
_LOSSES = {"cross_entropy": "cross entropy", "kl": "KL"}


def info_text(info: Info) -> str:
    """Return a line a fact, and a table of sizes where there are some."""
    if isinstance(info, ModelInfo):
        return _text(_model_lines(info), _size_table(info))
    if isinstance(info, SweepInfo):
        return _text(_sweep_lines(info), sweep_text(info.rows, info.recommended)[0] if info.rows else "")
    return _text(_training_lines(info), "")


def _text(lines: Iterable[tuple[str, str]], below: str) -> str:
    """Put names before values; they may come from a stranger's files, and are made harmless."""
    shown = [(name, harmless(value)) for name, value in lines if value]
    width = max(len(name) for name, _ in shown) + 2
    return "\n".join([f"{name:{width}}{value}" for name, value in shown] + (["", below] if below else []))


def _model_lines(info: ModelInfo) -> Iterator[tuple[str, str]]:
    at = f"@{info.revision[:7]}" if info.revision else ""
    patched = f", k = {info.layers}" + (f" in the order {info.order}" if info.order else "")
    yield "model", f"{info.name}{at}: {_WHAT[info.kind]}{patched if info.kind == 'patched' else ''}"
    yield "family", info.model_type
    yield "parameters", f"{show_count(info.parameters)}, {show_bytes(info.bytes)} of {info.dtype}"
    yield "embedding", "one matrix with the head (tied)" if info.tied_embeddings else "apart from the head (untied)"
    yield "layers", f"{info.depth}{_layers(info)}"
    for role, origin in info.made_of.items():
        yield role.replace("_", " "), _origin(origin)
    yield "distilled", _distillation(info.distillation)
    yield "weight delta", _weight_delta(info.weight_delta)
    yield "licence", ", ".join((info.license or {}).values())
    yield "sizes", _sizes(info)
    yield "scored on", ", ".join(info.scored_on)
    for note in info.notes:
        yield "but", note


def _layers(info: ModelInfo) -> str:
    if info.kind == "patched":
        return ": " + ", ".join(_owned(info.sources))
    return f", the teacher's {_numbers(info.copied_teacher_layers or ())}" if info.kind != "teacher" else ""


def _owned(sources: Sequence[LayerOrigin]) -> Iterator[str]:
    """Yield runs of layers of one owner: ``0-14 are the student's 0-14``."""
    start = 0
    for owner, group in groupby(sources, key=lambda source: source.owner):
        indices = [source.index for source in group]
        yield f"{_numbers(range(start, start + len(indices)))} the {owner}'s {_numbers(indices)}"
        start += len(indices)


def _numbers(numbers: Sequence[int]) -> str:
    """Return ``0,2,4-7``, as options take it."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def _origin(origin: Origin) -> str:
    known = [
        f"{origin.name}@{origin.revision[:7]}" if origin.revision else origin.name,
        f"{origin.depth} layers" if origin.depth else "",
        f"{show_count(origin.parameters)} parameters" if origin.parameters else "",
        (origin.license or {}).get("license", ""),
    ]
    return ", ".join(filter(None, known))


def _distillation(distillation: Mapping[str, Any]) -> str:
    """Return what a student records of its training; of another tool's record, what is there."""
    recipe, evaluation = (_mapping(distillation.get(key)) for key in ("recipe", "evaluation"))
    steps = sum(value for key in ("steps", "sft_steps") if isinstance(value := recipe.get(key), int))
    data = [each for key in ("data", "sft_data") for each in recipe.get(key) or () if isinstance(each, str)]
    tokens, perplexity = distillation.get("tokens"), evaluation.get("perplexity")
    told = [
        f"{steps:,} steps" if steps else "",
        f"{show_count(tokens)} tokens" if isinstance(tokens, int) else "",
        f"of {', '.join(data)}" if data else "",
        _losses(_mapping(distillation.get("losses"))),
        f"held-out perplexity {perplexity:.4g}" if isinstance(perplexity, float) else "",
    ]
    return ", ".join(filter(None, told)).replace("tokens, of", "tokens of")


def _losses(losses: Mapping[str, Any]) -> str:
    shown = [f"{_LOSSES.get(name, name)} {value:.4g}" for name, value in losses.items() if isinstance(value, float)]
    return f"losses: {', '.join(shown)}" if shown else ""


def _weight_delta(delta: Mapping[str, Any]) -> str:
    return f"{delta.get('student')} - {delta.get('base')}, times {delta.get('scale')}" if delta else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sizes(info: ModelInfo) -> str:
    if len(info.sizes) < 2:
        return ""
    of = "of a student that keeps " + _numbers(info.copied_teacher_layers or ()) if info.kind == "teacher" else ""
    first, last = info.sizes[0], info.sizes[-1]
    span = f"{first.depth} to {last.depth} layers"
    order = f"in the order {info.order}" if info.order and info.kind != "patched" else ""
    return ", ".join(filter(None, [f"{len(info.sizes)}, of {span}", order, of]))


def _size_table(info: ModelInfo) -> str:
    if len(info.sizes) < 2:
        return ""
    known = [_row(size, info.order or "") for size in info.sizes if size.parameters is not None]
    if known:
        return sweep_text(known, None, curve=False)[0]
    return table(["k", "depth"], [[str(size.layers), str(size.depth)] for size in info.sizes])


def _row(size: Size, order: str) -> SweepRow:
    scores: dict[str, Any] = dict(size.scores)
    return SweepRow(
        size.layers, size.depth, size.parameters or 0, size.bytes or 0, order, size.patched_blocks, **scores
    )


def _sweep_lines(info: SweepInfo) -> Iterator[tuple[str, str]]:
    yield "sweep", str(info.path) + ("" if info.finished else ": stopped before its end")
    yield "student", info.student or ""
    yield "teacher", info.teacher or ""
    yield "text", ", ".join(info.data)
    yield "orders", ", ".join(dict.fromkeys(row.order for row in info.rows))
    yield "order.json", info.order or ""
    yield "models", ", ".join(path.name for path in info.models)


def _training_lines(info: TrainingInfo) -> Iterator[tuple[str, str]]:
    yield "training", f"of {info.output}"
    yield "steps", "none is saved yet" if info.step is None else f"{info.step:,} of {info.steps:,} are saved"
    yield "checkpoint", str(info.checkpoint or "")
    yield "student", info.student_init or ""
    yield "teacher", info.teacher or ""
    yield "losses", _losses(info.losses).removeprefix("losses: ")
    yield "held out", ", ".join(f"{name} {value:.4g}" for name, value in info.evaluation.items())
