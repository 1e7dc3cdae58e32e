"""Every causal and every multimodal type of the installed transformers: derived, patched, compared.

    python benchmarks/families.py [--write | --compute] [TYPE ...]

A multimodal type that takes text models of several kinds stands once for each: ``llava/mistral``.

Prints `exact`, `refused` with its reason, or `inexact` for each type; fails if any is inexact. With ``--write`` and
none inexact, the rows of the types that were run take their places in the table; without a TYPE they are the table.

With ``--compute``, types of the table are distilled and scored in parts instead, as `distill` and `sweep` run them:
`agrees` with whole models in losses, gradients, perplexity and KL, `refused` with the reason, or `differs`; fails if
any differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import tiny_wrappers
import torch
import wrapper_proof
from compute_proof import SCALED, check_distilled, check_patched, check_scored, open_loaded
from family_proof import KEPT_SETS, InexactError, check_exact, derive_row, save_teacher, use_row
from tiny_types import build_problem
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)
from transformers.utils import logging

from boomerang_cli.engine.checkpoint import family_table
from boomerang_cli.engine.checkpoint.derivation.refusal import NotDerivableError
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.errors import BoomerangError
from boomerang_cli.engine.models.compose import LoadedPair

FEW = [(1, "last"), (2, "first")]
EXPLICIT = {"nemotron_h", "dots3_note_text", "lfm2_moe", "hy_v4"}
"""Types whose class has no depth or no rule without a list, other sizes for each kind of layer, or joined layers."""
WITHIN_OTHERS = (
    "idefics3/qwen2", "internvl/gpt_oss", "internvl/llama", "internvl/qwen3", "internvl/qwen3_moe", "llava/cohere",
    "llava/gemma", "llava/mistral", "llava/phi3", "llava/qwen2", "llava/qwen3", "llava_next/mistral",
    "llava_next/qwen2", "lfm2_vl/lfm2_moe", "mistral3/ministral3", "paligemma/gemma2", "aya_vision/cohere",
)  # fmt: skip
"""Text models that published multimodal ones hold beside that of the class's default."""
DERIVED_ON_THE_SPOT = {"kimi_k25", "qianfan_ocr"}
"""Types whose published files have other names than transformers writes: they are derived from the names at hand."""
TABLE = Path(family_table.__file__).with_name("families.json")


Proof = tuple[str, str, dict[str, Any] | None]
"""What became of a type, what is to be said of it, and its row."""


def prove(model_type: str) -> Proof:
    if reason := family_table.REFUSED.get(model_type):
        return "refused", reason, None
    if (same := CONFIG_MAPPING[model_type].model_type) != model_type:
        return "same", f"its config.json says {same}", None
    if problem := build_problem(model_type):
        return "refused", problem, {"refused": problem}
    return _proved(_prove, model_type)


def _prove(model_type: str, teacher: Path) -> Proof:
    config = save_teacher(model_type, teacher)
    row = None if model_type in family_table.FAMILIES else derive_row(teacher)
    if row is not None:
        use_row(model_type, row)
    family = family_table.known_family(config, model_type)
    assert family is not None
    kept_sets = KEPT_SETS[:1] if family.ends_in or family.last_apart else KEPT_SETS
    note = check_exact(teacher, family, kept_sets)
    others = [_tie_flipped(model_type, family, teacher.parent), _lists_absent(model_type, family, teacher.parent)]
    return "exact", ", ".join(filter(None, [*others, note])), row


def prove_wrapper(model_type: str) -> Proof:
    """Do the same with a multimodal type."""
    if reason := family_table.REFUSED.get(model_type.partition("/")[0]):
        return "refused", reason, None
    if problem := tiny_wrappers.build_problem(model_type):
        return "refused", problem, {"refused": problem}
    return _proved(_prove_wrapper, model_type)


def _prove_wrapper(model_type: str, teacher: Path) -> Proof:
    config = wrapper_proof.save_teacher(model_type, teacher)
    if config["model_type"] != model_type.partition("/")[0]:
        return "same", f"its config.json says {config['model_type']}", None
    try:
        wrapper_proof.load(teacher)
    except InexactError:
        reason = "transformers cannot read what it writes of the type"
        return "refused", reason, {"refused": reason}
    row = derive_row(teacher)
    family_table.derived_rows()[model_type] = row
    family = family_table.known_family(config, model_type)
    assert family is not None
    reached = family.wrapper.reached_layers(config, model_type) if family.wrapper else 0
    kept_sets = wrapper_proof.KEPT_SETS[: 1 if family.ends_in or reached > 2 else 2]
    note = wrapper_proof.check_exact(teacher, kept_sets)
    if not family.ties:
        return "exact", note, row
    tied, flipped = not family.tied_by_default, teacher.parent / "flipped" / "teacher"
    wrapper_proof.save_teacher(model_type, flipped, tie_word_embeddings=tied)
    wrapper_proof.check_exact(flipped, wrapper_proof.KEPT_SETS[:1], wrapper_proof.MODELS[1:2])
    return "exact", f"{note}, {'tied' if tied else 'untied'} too", row


def _proved(prove_in: Callable[[str, Path], Proof], model_type: str) -> Proof:
    """Return what a proof says that works beside a teacher's folder, or what its error says."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return prove_in(model_type, Path(folder) / "teacher")
        except (NotDerivableError, BoomerangError) as error:
            reason = str(error).replace(f"{folder}/", "")
            return "refused", reason, {"refused": reason}
        except InexactError as error:
            return "inexact", str(error), None
        except Exception as error:
            return "inexact", _shown(error), None


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:150]}"


def _is_wrapper(model_type: str) -> bool:
    kind = CONFIG_MAPPING[model_type.partition("/")[0]]
    return kind.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and "text_config" in kind.sub_configs


def compute(model_type: str) -> tuple[str, str, None]:
    """Return what became of a type's losses and scores, and what is to be said of them."""
    if model_type in family_table.REFUSED or "refused" in family_table.derived_rows().get(model_type, {}):
        return "skipped", "its layers cannot be moved", None
    if CONFIG_MAPPING[model_type].model_type != model_type:
        return "skipped", "its config.json says another type", None
    if _is_wrapper(model_type):
        return "skipped", "a multimodal model", None
    if problem := build_problem(model_type):
        return "skipped", problem, None
    outcome, said = "agrees", list[str]()
    with tempfile.TemporaryDirectory() as folder:
        save_teacher(model_type, Path(folder) / "teacher", **SCALED.get(model_type, {}))
        try:
            loaded = open_loaded(Path(folder) / "teacher")
        except BoomerangError as error:
            return "refused", str(error).replace(f"{folder}/", ""), None
        for check in (check_distilled, check_patched, check_scored):
            found, reason = _outcome(check, loaded)
            outcome = max(outcome, found, key=("agrees", "refused", "differs").index)
            said.append(reason.replace(f"{folder}/", ""))
    return outcome, "; ".join(filter(None, said)), None


def _outcome(check: Callable[[LoadedPair], None], loaded: LoadedPair) -> tuple[str, str]:
    try:
        check(loaded)
    except BoomerangError as error:
        return "refused", str(error)
    except Exception as error:
        return "differs", _shown(error)
    return "agrees", ""


def _tie_flipped(model_type: str, family: Family, folder: Path) -> str:
    """Prove the type again, tied if its default is not, and the other way round."""
    if not family.ties:
        return "never tied"
    teacher = folder / "flipped" / "teacher"
    try:
        config = save_teacher(model_type, teacher, tie_word_embeddings=not family.tied_by_default)
    except Exception:  # whatever a class raises for values that it does not know
        return "the class refuses the other tie"
    if config.get("tie_word_embeddings", family.tied_by_default) == family.tied_by_default:
        return "tie not flipped"
    check_exact(teacher, family, KEPT_SETS[:1], FEW)
    return "untied too" if family.tied_by_default else "tied too"


def _lists_absent(model_type: str, family: Family, folder: Path) -> str:
    """Prove the type again, with a ``config.json`` that leaves what it says of layers to its class."""
    fields = [*family.layer_lists, *dict(family.numbered), *dict(family.thresholds)]
    if not fields or model_type in EXPLICIT:
        return ""
    teacher = folder / "absent" / "teacher"
    save_teacher(model_type, teacher, absent=fields)
    check_exact(teacher, family, KEPT_SETS[:1], FEW)
    return "lists absent too"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--compute", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    rows: dict[str, dict[str, Any]] = {}
    multimodal = {name for name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES if _is_wrapper(name)}
    for model_type in arguments.types or sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *multimodal, *WITHIN_OTHERS}):
        started = time.monotonic()
        run = compute if arguments.compute else prove_wrapper if _is_wrapper(model_type) else prove
        outcome, said, row = run(model_type)
        counts[outcome] += 1
        print(f"{model_type:28} {outcome:8} {time.monotonic() - started:5.1f} s  {said}", flush=True)
        if row is not None and model_type not in {*family_table.FAMILIES, *DERIVED_ON_THE_SPOT}:
            rows[model_type] = row
    if arguments.write and not arguments.compute and not counts["inexact"]:
        by_hand = family_table.FAMILIES.keys() | family_table.REFUSED.keys()
        table = {**(json.loads(TABLE.read_text()) if arguments.types else {}), **rows}
        by_hand |= DERIVED_ON_THE_SPOT
        table = {model_type: row for model_type, row in table.items() if model_type not in by_hand}
        TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    sys.exit(counts["inexact"] + counts["differs"] > 0)


if __name__ == "__main__":
    main()
