"""``boomerang distill`` on conversations as a shell sees it: help, plan, course, result, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from chats import CHAT, MARKED, draw_chats, make_chat_project, words, write_rows
from distilling import RECIPE, copy_project
from files import names
from running import assert_refused, run

from boomerang_cli.engine.distillation.chat_sequences import LOOKED_AT_ROWS

DISTILL = ("distill", "--data", "train.txt", *RECIPE, *CHAT)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chat_project(tmp_path_factory.mktemp("made") / "project")


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh project, which is the current folder."""
    monkeypatch.chdir(copy_project(made, tmp_path))
    return tmp_path


def test_the_course_names_the_phases(project: Path) -> None:
    lines = run(*DISTILL, "--sft-sequence-length", "14").stderr.splitlines()
    said = [line for line in lines if " …" not in line]  # a busy machine waits for what takes two seconds
    assert said[1] == (
        "text: 6 steps of 4 sequences of 16 tokens, micro-batch size 4; "
        "sft: 4 steps of 4 conversations of up to 14 tokens, micro-batch size 4"
    )
    assert said[2] == "step 0 of 10 (text)"
    assert said[-3].startswith("step 10 of 10 (sft), ")
    assert re.fullmatch(r"--sft-sequence-length 14: of the conversations \d+ were cut to that length", said[-2])


def test_json_tells_of_every_phase_and_of_the_recipe(project: Path) -> None:
    (project / "teacher" / "chat_template.jinja").write_text(MARKED)
    sizes = ("--sft-batch-size", "2", "--sft-sequence-length", "16")
    result = json.loads(run(*DISTILL, "--sft-no-kl", "--recipe", "adapt", *sizes, "--json", "--quiet").stdout)
    assert [phase["name"] for phase in result["phases"]] == ["text", "sft"]
    assert (result["steps"], result["losses"]["kl"]) == (10, 0)
    assert result["recipe"].items() >= {"cosine_weight": 10.0, "sft_kl": False, "sft_steps": 4}.items()


def test_a_dry_run_prints_the_recipe_in_full(project: Path) -> None:
    said = run("distill", "--dry-run", "--sequence-length", "64", "--sft-sequence-length", "64", "--recipe", "adapt")
    assert "recipe adapt: data EleutherAI/the_pile_deduplicated, eval data none, " in said.stderr
    assert "sft steps 293, sft batch size 4096, sft sequence length 64, sft kl True, " in said.stderr
    assert not (project / "student").exists()


def test_help_shows_what_the_recipes_have() -> None:
    shown = " ".join(run("distill", "--help").output.replace("│", " ").split())
    assert "[default: 500; adapt: 240]" in shown
    assert "[default: 2.0; adapt: 10.0; between: 50.0]" in shown
    assert "[default: 0; adapt: 293]" in shown


def spoil(project: Path, what: str) -> None:
    chats, template = project / "chats.jsonl", project / "teacher" / "chat_template.jinja"
    if what == "no template":
        template.unlink()
    elif what == "template fails":
        template.write_text("{% if '3' in messages[0].content %}{{ raise_exception('no threes') }}{% endif %}")
    elif what == "no response":
        write_rows(chats, [*draw_chats(3), {"prompt": "w3", "completion": ""}])
    elif what == "messages without an assistant":
        write_rows(chats, [{"messages": [{"role": "user", "content": "w3"}]}])
    elif what == "other columns":
        write_rows(chats, [{"q": "w3", "a": "w4"}])
    elif what == "long prompts":
        write_rows(chats, [{"prompt": words(*range(3, 40)), "completion": "w3"}] * 20)
    elif what == "no JSON":
        chats.write_text("{")


REFUSED: dict[str, tuple[str, tuple[str, ...], str]] = {
    "no template": ("no template", (), r"teacher has no chat template, which --sft-data is written with: put a chat_"),
    "template fails": ("template fails", (), r"chats\.jsonl line \d+: the chat template of .* fails: no threes; mend"),
    "no response": ("no response", (), r"chats\.jsonl line 4 has no response in `completion`, no words of an assis"),
    "no assistant": ("messages without an assistant", (), r"line 1 has no response in `messages`, .*roles: user"),
    "other columns": ("other columns", (), r"line 1 has none of messages, .* \(columns: q, a\): .* --sft-col"),
    "columns that are not there": (
        "",
        ("--sft-columns", "q,a"),
        r"line 1 has none of q/a \(columns: prompt, completion\)",
    ),
    "no room for a response": ("long prompts", (), r"holds 0 rows with a response and 20 without one within 16 tokens"),
    "no JSON": ("no JSON", (), r"chats\.jsonl line 1 is not JSON"),
    "too few rows": ("", ("--sft-steps", "11"), r"holds 40 rows with a response, and 44 are needed; .* or --repeat"),
    "no such file": ("", ("--sft-data", "no.jsonl"), r"--sft-data no\.jsonl does not exist"),
    "plain text": (
        "",
        ("--sft-data", "train.txt"),
        r"--sft-data train\.txt holds no rows: convert it to one of .jsonl",
    ),
    "long conversations": ("", ("--sft-sequence-length", "65"), r"--sft-sequence-length 65 is beyond the 64 positions"),
    "unequal parts": (
        "",
        ("--sft-batch-size", "6", "--micro-batch-size", "4"),
        r"--sft-batch-size 6 cannot be split into equal parts of --micro-batch-size 4",
    ),
    "an unknown recipe": ("", ("--recipe", "addapt"), r"--recipe addapt is unknown: give one of paper, adapt"),
    "text that is not used": ("", ("--steps", "0"), r"--data with --steps 0: nothing would be trained on it"),
    "nothing to train on": (
        "",
        ("--no-cross-entropy", "--no-cosine", "--sft-no-kl"),
        r"nothing to train on: leave out one of .*--sft-no-kl",
    ),
}


SHOWN_BY_FIRST_ROWS = [case for case, (what, _, _) in REFUSED.items() if what] + ["too few rows", "plain text"]


@pytest.mark.parametrize("case", SHOWN_BY_FIRST_ROWS)
def test_a_dry_run_refuses_what_the_run_would(project: Path, case: str) -> None:
    what, arguments, message = REFUSED[case]
    spoil(project, what)
    chat = CHAT[2:] if "--sft-data" in arguments else CHAT
    words = ("distill", "--quiet", "--data", "train.txt", *RECIPE, *chat, *arguments, "--dry-run")
    assert_refused(*words, message=message)


def test_a_dry_run_reads_the_first_rows_of_large_data_alone(project: Path) -> None:
    write_rows(project / "chats.jsonl", [*draw_chats(LOOKED_AT_ROWS), {"q": "w3"}])
    run(*DISTILL, "--sft-steps", "11", "--dry-run")


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_leaves_nothing_behind(project: Path, case: str) -> None:
    what, arguments, message = REFUSED[case]
    spoil(project, what)
    before = names(project)
    chat = CHAT[2:] if "--sft-data" in arguments else CHAT
    assert_refused("distill", "--quiet", "--data", "train.txt", *RECIPE, *chat, *arguments, message=message)
    assert names(project) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sft-steps", "3"), "--sft-steps without --sft-data"),
        (("--sft-batch-size", "3"), "--sft-batch-size without --sft-data"),
        (("--sft-no-kl",), "--sft-no-kl without --sft-data"),
        (("--sft-columns", "a,b"), "--sft-columns without --sft-data"),
        (("--sft-data", "chats.jsonl"), "--sft-data without --sft-steps: tell how many steps"),
    ],
)
def test_one_without_the_other_is_refused(project: Path, arguments: tuple[str, ...], message: str) -> None:
    assert_refused("distill", "--data", "train.txt", *RECIPE, *arguments, "--quiet", message=f"error: {message}")


@pytest.mark.parametrize("value", ["a,b,c", "a,", ""])
def test_columns_that_are_no_columns_are_wrong_usage(project: Path, value: str) -> None:
    run(*DISTILL, "--sft-columns", value, code=2)


def test_text_stands_in_the_column_that_is_named(project: Path) -> None:
    texts = [{"content": (project / "train.txt").read_text().replace("\n<|endoftext|>\n", " ")}]
    write_rows(project / "train.jsonl", texts)
    run("distill", "--data", "train.jsonl", "--text-column", "content", *RECIPE, "--quiet")
    message = r"train\.jsonl line 1 has no column `text` \(columns: content\): .* --text-column"
    assert_refused("distill", "--data", "train.jsonl", *RECIPE, "--quiet", "-o", "other", message=message)
