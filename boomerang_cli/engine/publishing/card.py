"""The model card, ``README.md``: what a model is, how it was made, how to load it, and how to make another size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from boomerang_cli.engine.checkpoint.hub_reading import is_repo_id
from boomerang_cli.engine.output.plan import Plan, as_json_text
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.publishing import plain_yaml
from boomerang_cli.engine.publishing.privacy import public
from boomerang_cli.engine.publishing.provenance import PROVENANCE_FILE, provenance
from boomerang_cli.engine.sizes import show_bytes, show_count
from boomerang_cli.version import __version__

CARD_FILE = "README.md"
_MARK = "<!-- made by boomerang"
_MASKED = ("bert", "distilbert")

_CITATION = """\
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


def is_ours(card: str) -> bool:
    """Tell whether a model card was made here and not changed into somebody's own: its mark still stands in it."""
    return _MARK in card


def model_documents(
    plan: Plan, pair: Pair, *, order: str | None, patched_blocks: Sequence[int], name: str
) -> dict[str, str]:
    """Return ``boomerang.json`` and the card of a patched model (see :func:`provenance.provenance`).

    Args:
        name: the folder's.
    """
    made = provenance(plan, pair, order=order, patched_blocks=patched_blocks)
    card = model_card(made, name=name, model_type=str(plan.config["model_type"]))
    return {PROVENANCE_FILE: as_json_text(made), CARD_FILE: card}


def model_card(
    made: Mapping[str, Any], *, name: str, model_type: str, results: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return the card of a patched model or of a student; no path of this disk is in it.

    Args:
        made: the content of ``boomerang.json`` (see ``provenance.py``), or the same of a student.
        name: what the model is loaded by: a Hub id, or a folder.
        results: rows of a sweep, one a size.
    """
    made = public(made)
    sections = [
        f"# {name.rpartition('/')[2]}",
        _summary(made),
        "## Layers\n\n" + _layers(made),
        "## Sizes\n\n" + _sizes(made),
        "## Distillation\n\n" + _recipe(made["distillation"]) if made.get("distillation") else "",
        "## Results\n\n" + _results(made, results) if results else "",
        "## Use\n\n" + _usage(name, model_type),
        "## Other sizes\n\n" + _other_sizes(made, name),
        "## Licence\n\n" + _licence(made),
        "## Citation\n\n" + _CITATION,
    ]
    front = plain_yaml.dump(_metadata(made, model_type))
    mark = f"{_MARK} {__version__}: `boomerang push` writes this card anew while this line stands -->"
    return f"---\n{front}---\n{mark}\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def _metadata(made: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """Return the YAML of the card, in words that the Hub checks."""
    sources = [made.get("teacher"), made.get("student")]
    bases = [source["name"] for source in sources if source and is_repo_id(source["name"])]
    data = _recipe_of(made).get("data")
    metadata = {
        "base_model": bases,
        "base_model_relation": ("merge" if "k" in made else "finetune") if bases else None,
        "library_name": "transformers",
        "pipeline_tag": "fill-mask" if model_type in _MASKED else "text-generation",
        **(_common_licence(made) or {}),
        "datasets": [each for each in _listed(data) if isinstance(each, str) and is_repo_id(each)],
        "tags": ["boomerang-distillation", "model-size-interpolation", *(["merge"] if "k" in made else [])],
    }
    return {key: value for key, value in metadata.items() if value}


def _summary(made: Mapping[str, Any]) -> str:
    count = show_count(made["parameters"])
    method = "[boomerang distillation](https://arxiv.org/abs/2510.05064)"
    if "k" not in made:
        how = "distilled" if made.get("distillation") else "not distilled yet"
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


def _layers(made: Mapping[str, Any]) -> str:
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


def _sizes(made: Mapping[str, Any]) -> str:
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


def _recipe_of(made: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(_mapping(made.get("distillation")).get("recipe"))


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return what a student records of its training, where it is of the kind that it should be."""
    return value if isinstance(value, Mapping) else {}


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _recipe(distillation: Mapping[str, Any]) -> str:
    values = {**_mapping(distillation.get("recipe")), "tokens": distillation.get("tokens")}
    values |= {f"{name} loss": value for name, value in _mapping(distillation.get("losses")).items()}
    rows = [
        f"| {key.replace('_', ' ')} | {_shown(value)} |" for key, value in values.items() if value not in (None, [])
    ]
    return "The student was distilled once:\n\n| | |\n|---|---|\n" + "\n".join(rows)


def _results(made: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    tasks = list(dict.fromkeys(task for row in results for task in row.get("tasks") or {}))
    lines = ["| layers | parameters | order | perplexity | KL to the teacher |" + "".join(f" {t} |" for t in tasks)]
    lines.append("|---|---|---|---|---|" + "---|" * len(tasks))
    for row in results:
        values = [row.get("depth"), show_count(row["parameters"])]
        values += [row.get("order"), row.get("perplexity"), row.get("kl")]
        values += [(row.get("tasks") or {}).get(task) for task in tasks]
        cells = list(map(_shown, values))
        if row.get("patched_blocks") == made.get("patched_blocks"):
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\nBold: this model."


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):  # a task's metrics: the first is its main one
        return _shown(next(iter(value.values()), None))
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return " ".join(text.split()).replace("|", "\\|")  # a cell of a table is one line


def _usage(name: str, model_type: str) -> str:
    loader = "AutoModelForMaskedLM" if model_type in _MASKED else "AutoModelForCausalLM"
    lines = [
        f"from transformers import AutoTokenizer, {loader}",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
        f'model = {loader}.from_pretrained("{name}", dtype="auto")',
    ]
    return "```python\n" + "\n".join(lines) + "\n```"


def _other_sizes(made: Mapping[str, Any], name: str) -> str:
    teacher, student = made.get("teacher"), made.get("student", {"name": name})
    kept = tuple(made["copied_teacher_layers"])
    words = ["boomerang patch"]
    words += [f"--student {student['name']}"] if is_repo_id(student["name"]) else []
    words += [f"--teacher {teacher['name']}"] if teacher and is_repo_id(teacher["name"]) else []
    sizes = ""
    if teacher:
        n = len(LayerMap(teacher["depth"], kept).patchable)
        sizes = f" K is the number of patched blocks, from 0 (the student) to {n} (the teacher)."
    return f"```bash\n{' '.join(words)} --layers K\n```\n\n`--depth`, `--params 2B` and `--size 4GB` choose too.{sizes}"


def _licence(made: Mapping[str, Any]) -> str:
    told = {role: (made.get(role) or {}).get("license") for role in ("teacher", "student")}
    known = [f"the {role}'s is `{licence['license']}`" for role, licence in told.items() if licence]
    known += [f"`{made['license']['license']}`"] if made.get("license") else []
    return "That of the models that it is made of" + (
        f": {', '.join(known)}." if known else ", which their cards tell."
    )


def _common_licence(made: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Return the licence to declare: that of all models that tell one, if it is the same."""
    sources = [made, made.get("teacher") or {}, made.get("student") or {}]
    known = [source["license"] for source in sources if source.get("license")]
    return known[0] if known and all(each["license"] == known[0]["license"] for each in known) else None
