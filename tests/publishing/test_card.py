"""The model card: metadata that the Hub takes, what a reader must know, and nothing of this disk."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from boomerang_cli.engine.checkpoint.families import ENCODERS, MASKED
from boomerang_cli.engine.distillation.identity import datasets_of
from boomerang_cli.engine.publishing.card import NO_RESULTS, Results, is_ours, model_card
from boomerang_cli.engine.publishing.card_metadata import task_of
from boomerang_cli.engine.publishing.privacy import public
from boomerang_cli.engine.publishing.provenance import read_license

COMMIT = "a" * 40
APACHE = {"license": "apache-2.0"}


def made(**changes: Any) -> dict[str, Any]:
    """Return what ``boomerang.json`` holds of a model of 5 layers: 0, 2, 4 and 5 of the teacher were kept, k = 1."""
    model: dict[str, Any] = {
        "teacher": {"name": "lab/big", "revision": COMMIT, "depth": 6, "parameters": 6_000_000,
                    "tied_embeddings": True, "license": APACHE},
        "student": {"name": "lab/small", "revision": COMMIT, "depth": 4, "parameters": 4_000_000,
                    "tied_embeddings": True, "license": None},
        "copied_teacher_layers": [0, 2, 4, 5],
        "k": 1,
        "order": "last",
        "patched_blocks": [1],
        "embedding": "student",
        "head": "teacher",
        "tied_embeddings": False,
        "layers": [{"owner": "student", "index": 0}] + [{"owner": "teacher", "index": index} for index in (2, 3, 4, 5)],
        "parameters": 5_500_000,
        "bytes": 11_000_000,
        "dtype": "bfloat16",
        "distillation": {"recipe": {"data": ["lab/text", "/home/me/own.txt"], "steps": 500, "eval_data": []},
                         "tokens": 1000, "losses": {"total": 2.34567}},
    }  # fmt: skip
    return {**model, **changes}


def card(
    name: str = "me/middle", model_type: str = "qwen3", results: Results = NO_RESULTS, **changes: Any
) -> ModelCard:
    return ModelCard(model_card(made(**changes), name=name, config={"model_type": model_type}, results=results))


def local(role: str) -> dict[str, Any]:
    return {**made()[role], "name": f"/home/me/{role}", "revision": None}


def test_the_hub_reads_what_the_model_is_made_of() -> None:
    assert card().data.to_dict() == {
        "base_model": ["lab/big", "lab/small"],
        "base_model_relation": "merge",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "apache-2.0",
        "datasets": ["lab/text"],
        "tags": ["boomerang-distillation", "model-size-interpolation", "merge"],
    }


def test_models_of_this_disk_are_no_base_models() -> None:
    data = card(student=local("student")).data.to_dict()
    assert data["base_model"] == ["lab/big"]
    assert "base_model" not in card(student=local("student"), teacher=local("teacher")).data.to_dict()


def test_no_path_of_this_disk_is_in_a_card() -> None:
    assert "/home/me" not in str(card(student=local("student"), teacher=local("teacher")))


def test_a_licence_that_both_models_tell_is_declared() -> None:
    other = {"license": "other", "license_name": "lab-1", "license_link": "https://lab.example/licence"}
    both = {role: {**made()[role], "license": other} for role in ("teacher", "student")}
    assert card(**both).data.to_dict().items() >= other.items()


def test_licences_that_differ_are_told_and_none_is_declared() -> None:
    both = card(student={**made()["student"], "license": {"license": "mit"}})
    assert "license" not in both.data.to_dict()
    assert "the teacher's is `apache-2.0`, the student's is `mit`" in both.content


@pytest.mark.parametrize(("tied", "said"), [(False, "two matrices (untied)"), (True, "one matrix (tied)")])
def test_the_card_says_whether_this_model_is_tied(tied: bool, said: str) -> None:
    content = card(tied_embeddings=tied).content
    assert f"| this model | 5 | 5,500,000 | {said} |" in content
    assert ("is larger than its layers tell" in content) is not tied


def test_the_card_says_where_each_layer_comes_from() -> None:
    content = card().content
    assert "| 0 | student | 0 |\n| 1 to 4 | teacher | 2 to 5 |" in content
    assert "The embedding is the student's; the final norm and the head are the teacher's." in content
    assert "Patched blocks: 1 (k = 1, in the order `last`)" in content


def test_the_recipe_is_told_without_what_is_empty() -> None:
    content = card().content
    assert "| steps | 500 |" in content
    assert "| total loss | 2.346 |" in content
    assert "eval data" not in content
    assert "## Distillation" not in card(distillation=None).content


def test_conversations_are_told_of_only_where_there_were_any() -> None:
    text = {"data": ["lab/text:en@v1"], "sft_data": [], "sft_steps": 0, "sft_kl": True}
    chat = {**text, "sft_data": ["lab/chats:all:math"], "sft_steps": 7}
    plain, both = (card(distillation={"recipe": recipe}) for recipe in (text, chat))
    assert "sft" not in plain.content
    assert "| sft steps | 7 |" in both.content
    assert (plain.data.datasets, both.data.datasets) == (["lab/text"], ["lab/text", "lab/chats"])


def test_results_mark_this_model() -> None:
    rows = [
        {"depth": depth, "parameters": 10**6, "order": "last", "patched_blocks": blocks, "perplexity": 9.87654,
         "kl": None, "top1": top1, "acceptance": 0.875, "tasks": {"arc": {"acc": 0.5}}}
        for depth, blocks, top1 in ((4, [], None), (5, [1], 0.75))
    ]  # fmt: skip
    content = card(results=Results(rows)).content
    assert "| layers | parameters | order | perplexity | top1 | acceptance | arc |\n" in content
    assert "| 4 | 1.00M | last | 9.877 |  | 0.875 | 0.5 |" in content
    assert "| **5** | **1.00M** | **last** | **9.877** | **0.75** | **0.875** | **0.5** |" in content


def test_what_top1_and_acceptance_mean_is_told_where_they_were_measured() -> None:
    row = {"depth": 4, "parameters": 10**6, "order": "last", "patched_blocks": [], "kl": 0.25}
    content = card(results=Results([{**row, "acceptance": 0.875}])).content
    assert "| layers | parameters | order | KL to the teacher | acceptance |\n" in content
    assert "that speculative sampling accepts for the teacher" in content
    assert "`top1`" not in content


def test_what_this_model_writes_is_shown_and_nothing_in_it_is_obeyed() -> None:
    rows = [
        {"depth": depth, "parameters": 10**6, "patched_blocks": blocks,
         "samples": [{"prompt": "Say <b>", "text": text}, {"prompt": "Go", "text": ""}]}
        for depth, blocks, text in ((4, [], "of another size"), (5, [1], "```\n## Licence\nhf_" + "a" * 34))
    ]  # fmt: skip
    content = card(results=Results(rows)).content
    assert "Prompt:\n\n```text\nSay <b>\n```\n\nThis model:\n\n````text\n```\n## Licence\n…\n````" in content
    assert "```text\nGo\n```\n\nThis model writes nothing." in content
    assert "of another size" not in content
    assert "## Samples" not in card().content


def test_the_card_shows_how_to_load_it_and_how_to_make_another_size() -> None:
    content = card().content
    assert 'AutoModelForCausalLM.from_pretrained("me/middle", dtype="auto")' in content
    assert "boomerang patch --student lab/small --teacher lab/big --layers K" in content
    assert "from 0 (the student) to 2 (the teacher)" in content
    assert "2510.05064" in content
    assert "2607.08170" in content


def test_the_command_for_another_size_is_one_that_the_reader_can_run() -> None:
    kept = {**made()["student"], "records_layers": False}
    assert "--student lab/small --teacher lab/big --keep 0,2,4,5 --layers K" in card(student=kept).content
    content = card(student=local("student")).content
    assert "boomerang patch --student me/middle --teacher lab/big --layers K" in content
    assert "from 0 (this model) to 1 (the teacher)" in content
    content = card(teacher=local("teacher")).content
    assert "--student lab/small --teacher TEACHER --layers K" in content
    assert "TEACHER is a folder or Hub id of `teacher`" in content


def test_datasets_are_those_of_the_hub_and_no_folder_of_such_a_name() -> None:
    recipe = {"recipe": {"data": ["my/corpus", "lab/text"]}, "datasets": ["lab/text"]}
    assert card(distillation=recipe).data.datasets == ["lab/text"]
    read = {"--data": ["0123456789abcdef", ["lab/text", "en", "train", None]], "--sft-data": [], "--eval-data": []}
    assert datasets_of({"text": read}) == ["lab/text"]


@pytest.mark.parametrize("model_type", sorted(MASKED | ENCODERS))
def test_a_model_of_masked_words_is_loaded_and_listed_as_one_where_it_has_such_a_class(model_type: str) -> None:
    masked = card(model_type=model_type)
    has_class = model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    assert masked.data.pipeline_tag == ("fill-mask" if has_class else "text-generation")
    assert ("AutoModelForMaskedLM" in masked.content) == has_class


def test_an_encoder_that_is_set_to_be_a_decoder_continues_a_text() -> None:
    assert task_of({"model_type": "roberta", "is_decoder": True}, multimodal=False) == "text-generation"


def test_a_students_card_names_its_teacher_as_the_base() -> None:
    student = {
        key: made()[key] for key in ("teacher", "copied_teacher_layers", "tied_embeddings", "parameters", "dtype")
    }
    written = ModelCard(model_card(student, name="me/small", config={"model_type": "llama"}))
    assert written.data.base_model == ["lab/big"]
    assert written.data.to_dict()["base_model_relation"] == "finetune"
    assert "boomerang patch --student me/small --teacher lab/big --layers K" in written.content
    assert "A student of 4 layers and 5.50M parameters, not distilled yet" in written.content


def test_a_card_is_ours_until_its_mark_is_removed() -> None:
    text = str(card())
    assert is_ours(text)
    assert not is_ours("\n".join(line for line in text.splitlines() if not line.startswith("<!--")))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["boomerang", "patch", "--student", "/home/me/a b"], ["boomerang", "patch", "--student", "a b"]),
        (["boomerang", "patch", "--student=~/small"], ["boomerang", "patch", "--student=small"]),
        (["boomerang", "patch", "--teacher", "lab/big"], ["boomerang", "patch", "--teacher", "lab/big"]),
    ],
)
def test_commands_are_published_without_folders(words: list[str], shown: list[str]) -> None:
    assert public({"command": shlex.join(words)}) == {"command": shlex.join(shown)}


@pytest.mark.parametrize(
    "text", ["", "# A title", "---\n- a\n- list\n---\n", "---\nlicense: [\n---\n", "---\nlicense: mit\n"]
)
def test_a_card_without_readable_metadata_tells_no_licence(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text)
    assert read_license(tmp_path / "README.md") is None
    assert read_license(tmp_path / "none.md") is None
