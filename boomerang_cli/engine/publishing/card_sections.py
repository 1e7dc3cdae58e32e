"""The card's sections, each told from what ``boomerang.json`` holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from boomerang_cli.engine.checkpoint.checkpoint import BUILTIN_DEMO
from boomerang_cli.engine.checkpoint.hub_reading import is_repo_id
from boomerang_cli.engine.checkpoint.readers import PORTABLE_TO, is_portable, misreaders, told
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.published import published_student
from boomerang_cli.engine.publishing.card_metadata import as_mapping
from boomerang_cli.engine.publishing.fenced import fenced
from boomerang_cli.engine.sizes import show_bytes, show_count

CITATION = """\
```bibtex
@inproceedings{kangaslahti2026boomerang,
  title={Boomerang Distillation Enables Zero-Shot Model Size Interpolation},
  author={Kangaslahti, Sara and Nayak, Nihal V. and Geuter, Jonathan and Fumero, Marco and Locatello, Francesco
          and Alvarez-Melis, David},
  booktitle={International Conference on Learning Representations},
  year={2026},
  url={https://arxiv.org/abs/2510.05064}
}

@misc{layerpatching2026,
  title={Understanding Layer Patching in Model Size Interpolation},
  year={2026},
  url={https://arxiv.org/abs/2607.08170}
}
```"""


def summary(made: Mapping[str, Any]) -> str:
    """Return what the model is, in a sentence."""
    count = show_count(made["parameters"])
    method = "[boomerang distillation](https://arxiv.org/abs/2510.05064)"
    if "k" not in made:
        added = "made without training by a [weight delta](https://arxiv.org/abs/2608.22854)"
        unknown = "whose training is not recorded" if made.get("trained_elsewhere") else "not distilled yet"
        untrained = added if made.get("delta_student") or made.get("weight_delta") else unknown
        how = "distilled" if made.get("distillation") else untrained
        return (
            f"A student of {len(made['copied_teacher_layers'])} layers and {count} parameters, {how}, from which "
            f"{method} makes every model size up to its teacher{_of(made.get('teacher'))}."
        )
    return (
        f"A model of {len(made['layers'])} layers and {count} parameters between the student{_of(made['student'])} "
        f"and its teacher{_of(made['teacher'])}, made by {method}: blocks of the teacher's layers stand in place of "
        "layers of the student, and nothing was trained for this size."
    )


def _of(source: Mapping[str, Any] | None) -> str:
    return f" {_linked(source)}" if source else ""


def _linked(source: Mapping[str, Any]) -> str:
    name = source["name"]
    if not is_repo_id(name):
        return f"`{name}`"
    revision = source.get("revision")
    at = f" at [{revision[:7]}](https://huggingface.co/{name}/commit/{revision})" if revision else ""
    return f"[{name}](https://huggingface.co/{name}){at}"


def layers(made: Mapping[str, Any]) -> str:
    """Return which layers come from whom; of a student, which it copies."""
    kept = ", ".join(map(str, made["copied_teacher_layers"]))
    student = f"The student copies the teacher's layers {kept}, counted from 0."
    if "k" not in made:
        return student
    order = f", in the order `{made['order']}`" if made["order"] else ""
    blocks = ", ".join(map(str, made["patched_blocks"])) or "none"
    rows, start = ["| layers | from | its layers |", "|---|---|---|"], 0
    for owner, group in groupby(made["layers"], key=lambda layer: layer["owner"]):
        indices = [layer["index"] for layer in group]
        rows.append(f"| {_span(start, len(indices))} | {owner} | {_span(indices[0], len(indices))} |")
        start += len(indices)
    return (
        f"{student} Patched blocks: {blocks} (k = {made['k']}{order}).\n\n" + "\n".join(rows) + "\n\n"
        f"The embedding is the {made['embedding']}'s; the final norm and the head are the {made['head']}'s."
    )


def _span(start: int, count: int) -> str:
    return str(start) if count == 1 else f"{start} to {start + count - 1}"


def weight_delta(made: Mapping[str, Any]) -> str:
    """Return what was added to the teacher's layers."""
    return (
        f"Each tensor is the teacher's + {made['delta_scale']:g} · (the distilled student's - its base's), in float32 "
        f"and rounded once. The distilled student is{_of(made['delta_student'])}, its base{_of(made['base'])}, "
        "whose kept layers take part."
    )


def sizes(made: Mapping[str, Any]) -> str:
    """Return a table of the model's size beside its student's and its teacher's."""
    depth = len(made.get("layers") or made["copied_teacher_layers"])
    rows = [_size_row("this model", {**made, "depth": depth})]
    if "k" in made:
        rows = [_size_row("student", made["student"]), *rows, _size_row("teacher", made["teacher"])]
    table = "\n".join(["| | layers | parameters | embedding and head |", "|---|---|---|---|", *rows])
    notes = [f"Stored as {made['dtype']}" + (f", {show_bytes(made['bytes'])}." if "bytes" in made else ".")]
    if "k" in made and not made["tied_embeddings"] and made["student"]["tied_embeddings"]:
        notes.append(
            "Student and teacher each use one matrix as embedding and head (tied). This model takes the embedding of "
            "one and the head of the other, so it stores two matrices (untied), and is larger than its layers tell."
        )
    return f"{table}\n\n{' '.join(notes)}"


def _size_row(name: str, model: Mapping[str, Any]) -> str:
    tied = "one matrix (tied)" if model["tied_embeddings"] else "two matrices (untied)"
    return f"| {name} | {model['depth']} | {model['parameters']:,} | {tied} |"


def recipe(distillation: Mapping[str, Any]) -> str:
    """Return how the student was distilled, as a table of what it records of it."""
    recorded = as_mapping(distillation.get("recipe"))
    needless = () if recorded.get("sft_data") else [key for key in recorded if key.startswith("sft_")]
    values = {key: value for key, value in recorded.items() if key not in needless}
    values |= {"tokens": distillation.get("tokens")}
    values |= {f"{name} loss": value for name, value in as_mapping(distillation.get("losses")).items()}
    rows = [
        f"| {key.replace('_', ' ')} | {_shown(value)} |" for key, value in values.items() if value not in (None, [])
    ]
    before = as_mapping(distillation.get("before"))
    once = f"again, after {_shown(before.get('tokens'))} tokens of an earlier distillation" if before else "once"
    return f"The student was distilled {once}:\n\n| | |\n|---|---|\n" + "\n".join(rows)


_MEASURES = {
    "layers": "depth",
    "parameters": "parameters",
    "order": "order",
    "perplexity": "perplexity",
    "KL to the teacher": "kl",
    "top1": "top1",
    "acceptance": "acceptance",
}
"""By the heading in the card, what a sweep calls it."""

_MEASURES_TOLD = {
    "top1": "`top1`: the share of positions where the most likely token is the teacher's.",
    "acceptance": "`acceptance`: the share of tokens drafted by the model that speculative sampling accepts for the "
    "teacher ([arXiv 2211.17192](https://arxiv.org/abs/2211.17192)).",
}


def results(own: Sequence[int] | None, results: Sequence[Mapping[str, Any]], data: Sequence[str]) -> str:
    """Return a sweep's rows as a table of what was measured, this model's in bold.

    Args:
        own: the blocks of this model's row.
        data: the text that was scored on.
    """
    tasks = dict.fromkeys(task for row in results for task in row.get("tasks") or {})
    columns = {heading: [row.get(key) for row in results] for heading, key in _MEASURES.items()}
    columns["parameters"] = [show_count(row["parameters"]) for row in results]
    columns |= {task: [(row.get("tasks") or {}).get(task) for row in results] for task in tasks}
    columns = {heading: values for heading, values in columns.items() if any(value is not None for value in values)}
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row, values in zip(results, zip(*columns.values(), strict=True), strict=True):
        cells = list(map(_shown, values))
        if row.get("patched_blocks") == own:
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"Measured on {', '.join(f'`{_shown(name)}`' for name in data)}."] if data else []
    notes += ["Bold: this model.", *(told for heading, told in _MEASURES_TOLD.items() if heading in columns)]
    return "\n".join(lines) + "\n\n" + " ".join(notes)


def samples(own_blocks: Sequence[int] | None, results: Sequence[Mapping[str, Any]]) -> str:
    """Return what this model wrote behind the prompts of a sweep; nothing where there were none."""
    own = [row for row in results if row.get("patched_blocks") == own_blocks and row.get("samples")]
    said = [
        f"Prompt:\n\n{fenced(sample['prompt'])}\n\n"
        + (f"This model:\n\n{fenced(sample['text'])}" if sample["text"].strip() else "This model writes nothing.")
        for row in own[:1]
        for sample in row["samples"]
    ]
    return "\n\n".join(
        ["What this model writes, greedily and cut off where it goes on for long:", *said] if said else []
    )


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):  # a task's metrics: the first is its main one
        return _shown(next(iter(value.values()), None))
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return " ".join(text.split()).replace("|", "\\|")  # a cell of a table is one line


_LOADERS = {
    "fill-mask": ("AutoTokenizer", "AutoModelForMaskedLM"),
    "text-generation": ("AutoTokenizer", "AutoModelForCausalLM"),
    "image-text-to-text": ("AutoProcessor", "AutoModelForImageTextToText"),
}


def usage(name: str, task: str) -> str:
    """Return the Python that loads the model."""
    reader, loader = _LOADERS[task]
    lines = [
        f"from transformers import {reader}, {loader}",
        "",
        f'{reader.removeprefix("Auto").lower()} = {reader}.from_pretrained("{name}")',
        f'model = {loader}.from_pretrained("{name}", dtype="auto")',
    ]
    return "```python\n" + "\n".join(lines) + "\n```"


def readers(config: Mapping[str, Any]) -> str:
    """Return which programs misread the model of a ``config.json``, and why; nothing where none is known to."""
    known = misreaders(config)
    portable = f"Portable to {' and '.join(sorted(PORTABLE_TO))}." if is_portable(config) else "Not portable."
    not_so = "not so here, and they refuse or misread this model; transformers reads it."
    return f"{portable} {told(known)}: {not_so}" if known else ""


def other_sizes(made: Mapping[str, Any], name: str, *, scored: bool = False) -> str:
    """Return the command that makes another size on the reader's machine.

    A patched model whose student is on nobody else's disk is a student itself, of the sizes above its own.

    Args:
        scored: whether the scores of these sizes stand in the repository.
    """
    teacher, student = made.get("teacher"), made.get("student") or {"name": name}
    is_itself = not is_repo_id(student["name"])
    kept = [] if is_itself or student.get("records_layers", True) else made["copied_teacher_layers"]
    words = ["boomerang patch --student", name if is_itself else student["name"]]
    named = _teacher_word(teacher, words[-1])
    words += ["--teacher", named] if named else []
    words += ["--keep", ",".join(map(str, kept))] if kept else []
    choices = "`--depth`, `--params 2B` and `--size 4GB` choose too"
    choices += ", and `--max-kl 0.1` by the results above." if scored else "."
    if teacher:
        n = len(LayerMap(teacher["depth"], tuple(made["copied_teacher_layers"])).patchable)
        n -= made.get("k", 0) if is_itself else 0
        least = "this model" if is_itself and "k" in made else "the student"
        choices += f" K is the number of patched blocks, from 0 ({least}) to {n} (the teacher)."
    if named == _PLACEHOLDER:
        which = f"`{teacher['name']}`" if teacher else "the model that the student was made from"
        choices += f" {_PLACEHOLDER} is a folder or Hub id of {which}."
    return f"```bash\n{' '.join(words)} --layers K\n```\n\n{choices}"


_PLACEHOLDER = "TEACHER"


def _teacher_word(teacher: Mapping[str, Any] | None, student: str) -> str | None:
    """Return how a command names a teacher: a folder would mean nothing to the reader; None where it need not."""
    name = teacher["name"] if teacher else None
    if isinstance(name, str) and (is_repo_id(name) or name == BUILTIN_DEMO):
        return name
    return None if published_student(student) else _PLACEHOLDER


def licence(made: Mapping[str, Any]) -> str:
    """Return whose licence holds."""
    roles = ("teacher", "student", "delta_student", "base")
    told = {role.replace("_", " "): (made.get(role) or {}).get("license") for role in roles}
    known = [f"the {role}'s is `{licence['license']}`" for role, licence in told.items() if licence]
    known += [f"`{made['license']['license']}`"] if made.get("license") else []
    return "That of the models that it is made of" + (
        f": {', '.join(known)}." if known else ", which their cards tell."
    )
