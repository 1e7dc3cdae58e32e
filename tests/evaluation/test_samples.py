"""What every size writes behind a prompt, against the folder that ``patch`` writes; and ``samples.md``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sweeping import line
from tiny_models import make_tokenizer, save_pair
from transformers import AutoModelForCausalLM

from boomerang_cli.engine.errors import DataError, OutputError, ScoringError
from boomerang_cli.engine.evaluation.prompts import Prompt
from boomerang_cli.engine.evaluation.rows import SweepRow
from boomerang_cli.engine.evaluation.samples import samples_document
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.publishing.fenced import fenced
from boomerang_cli.engine.sweep import sweep

TEMPLATE = (
    "{% for message in messages %}{{ {'system': 'w10', 'user': 'w11', 'assistant': 'w12'}[message.role] }} "
    "{{ message.content }} {% endfor %}{% if add_generation_prompt %}w12{% endif %}"
)
PROMPT = "w3 w4 w5"


@pytest.fixture
def chatting(folder: Path, tmp_path: Path) -> Path:
    """The teacher, with a chat template."""
    teacher = shutil.copytree(folder / "teacher", tmp_path / "teacher")
    (teacher / "chat_template.jinja").write_text(TEMPLATE)
    return teacher


@pytest.fixture
def continued(monkeypatch: pytest.MonkeyPatch) -> list[Prompt]:
    """The prompts that are continued anew."""
    prompts: list[Prompt] = []
    real = Prompt.continued_by

    def spy(self: Prompt, *rest: Any) -> str:
        prompts.append(self)
        return real(self, *rest)

    monkeypatch.setattr(Prompt, "continued_by", spy)
    return prompts


def written_by(folder: Path, prompt: str = PROMPT, new_tokens: int = 64) -> str:
    """Generate as any user of a written model would."""
    tokenizer = make_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    encoded = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    tokens = model.generate(**encoded, do_sample=False, max_new_tokens=new_tokens)
    text = tokenizer.decode(tokens[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    return str(text).removesuffix("w63").rstrip()


# What is written


@pytest.mark.parametrize("family", ["gpt_neox", "qwen3", "qwen3_next"])
def test_a_composed_model_writes_what_its_folder_does(family: str, tmp_path: Path) -> None:
    save_pair(tmp_path, family, eos_token_id=[63])
    found = sweep(student=tmp_path / "student", prompt=[PROMPT], layers=[0, 2], output=tmp_path / "sweep").rows
    for row in found:
        made = patch(blocks=row.patched_blocks, student=tmp_path / "student", output=tmp_path / str(row.layers))
        (sample,) = row.samples or ()
        assert sample == {"prompt": PROMPT, "text": written_by(made.path, new_tokens=61)}
    assert max(len(row.samples[0]["text"].split()) for row in found) > 30  # beyond every sliding window


def test_a_sample_ends_where_the_generation_config_ends_it(folder: Path, chatting: Path, run: Any) -> None:
    (chatting / "chat_template.jinja").unlink()
    free = run(prompt=[PROMPT], data=[], layers=[3]).rows[0].samples[0]["text"].split()
    end = next(index for index, word in enumerate(free) if index and word not in free[:index])
    settings = {"eos_token_id": [2, int(free[end][1:])], "do_sample": True, "temperature": 0.7, "max_length": 5}
    (chatting / "generation_config.json").write_text(json.dumps(settings))
    found = run(prompt=[PROMPT], data=[], layers=[3], teacher=chatting, output=chatting.parent / "ended").rows[0]
    assert found.samples[0]["text"].split() == free[:end]


def test_a_chat_template_is_used_with_the_system_instruction(chatting: Path, run: Any, continued: list[Prompt]) -> None:
    run(prompt=[PROMPT], data=[], layers=[0], teacher=chatting, system_instruction="w7")
    assert continued[0].input_ids == (10, 7, 11, 3, 4, 5, 12)
    assert continued[0].new_tokens == 9  # the teacher has 16 positions


def test_samples_change_no_score(run: Any, tmp_path: Path) -> None:
    plain = run(output=tmp_path / "plain").rows
    rows = run(prompt=[PROMPT, "w9"]).rows
    assert [(row.perplexity, row.kl) for row in rows] == [(row.perplexity, row.kl) for row in plain]


def test_a_model_of_several_orders_is_asked_once(run: Any, continued: list[Prompt]) -> None:
    rows = run(prompt=[PROMPT, PROMPT], data=[], order=["first,last"]).rows
    assert len(continued) == len({row.patched_blocks for row in rows}) == 6
    assert all(len(row.samples) == 1 for row in rows)


def test_a_second_run_asks_nothing_again(run: Any, continued: list[Prompt]) -> None:
    first = run(prompt=[PROMPT], data=[])
    continued.clear()
    assert run(prompt=[PROMPT], data=[]) == first
    assert continued == []


def test_another_instruction_is_asked_anew(chatting: Path, run: Any, continued: list[Prompt]) -> None:
    asked = {"prompt": [PROMPT], "data": [], "layers": [0], "teacher": chatting}
    run(**asked)
    result = run(**asked, system_instruction="w7")
    assert len(continued) == 2
    assert json.loads((result.path / "results.json").read_text())["asked"] == {
        "prompts": [PROMPT], "new_tokens": 64, "system_instruction": "w7"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [("chat_template.jinja", "{{ messages[0].content }}", "chat template"), ("generation_config.json", "{}", "gen")],
)
def test_answers_under_another_template_or_config_are_not_mixed_in(
    chatting: Path, run: Any, file: str, content: str, named: str
) -> None:
    asked = {"prompt": [PROMPT], "data": [], "layers": [0], "teacher": chatting}
    run(**asked)
    (chatting / file).write_text(content)
    assert f"holds another sweep, of another {named}" in line(OutputError, run, **asked)


# What is refused before any work


@pytest.mark.parametrize(("settings", "message"), [
    ({"prompt": [" "]}, "--prompt is empty: is a variable not set?"),
    ({"prompt": ["\udce4"]}, "is not UTF-8"),
    ({"prompt": ["w3 " * 16]}, "has 16 tokens, and "),
    ({"prompt": [PROMPT], "system_instruction": "w7"}, "--system-instruction: "),
    ({"prompt": [PROMPT], "apply_chat_template": True}, "teacher has no chat template: leave it out"),
    ({"system_instruction": "w7"}, "--system-instruction is for tasks and prompts: give --tasks or --prompt"),
    ({"limit": 3}, "--limit is for tasks of lm-eval: give --tasks, or leave it out"),
    ({"prompt": [PROMPT], "num_fewshot": 0}, "--num-fewshot is for tasks of lm-eval: give --tasks"),
    ({"include_path": "tasks"}, "--include-path is for tasks of lm-eval: give --tasks"),
    ({"prompt": [PROMPT], "gen_kwargs": "top_k=1"}, "--gen-kwargs is for tasks of lm-eval: give --tasks"),
    ({"tasks": ["a"], "fewshot_as_multiturn": True}, "makes turns of a chat: give --apply-chat-template, too"),
])  # fmt: skip
def test_what_cannot_be_asked_is_refused(run: Any, tmp_path: Path, settings: Any, message: str) -> None:
    assert message in line(ScoringError, run, **settings)
    assert not (tmp_path / "sweep").exists()


def test_a_template_that_takes_no_instruction_says_so(chatting: Path, run: Any) -> None:
    (chatting / "chat_template.jinja").write_text("{{ raise_exception('System role not supported') }}")
    message = line(ScoringError, run, prompt=[PROMPT], teacher=chatting, system_instruction="w7")
    assert message.endswith("does not take --system-instruction: System role not supported")


def test_a_prompt_with_a_token_that_the_models_lack_is_refused(chatting: Path, run: Any) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["w"])
    tokenizer.save_pretrained(chatting)
    assert "gives the token 'w' the id 64" in line(DataError, run, prompt=["w3 w"], teacher=chatting)


def test_a_generation_config_that_needs_code_of_the_hub_is_refused(chatting: Path, run: Any) -> None:
    (chatting / "generation_config.json").write_text(json.dumps({"penalty_alpha": 0.6, "top_k": 4}))
    message = line(ScoringError, run, prompt=[PROMPT], data=[], layers=[0], teacher=chatting)
    assert message.startswith("--prompt: the teacher's generation_config.json cannot be used: ")


# samples.md


def test_samples_stand_prompt_by_prompt_and_size_by_size(run: Any) -> None:
    result = run(prompt=[PROMPT, "w9"], data=[], layers=[0, 1])
    text = (result.path / "samples.md").read_text()
    headings = [each for each in text.splitlines() if each.startswith("#")]
    sizes = ["### 5 layers, 42.6k, k = 0: the student", "### 6 layers, 50.4k, k = 1, `first`"]
    assert [each.split(",")[0] for each in headings] == [
        each.split(",")[0] for each in ("# Samples", "## Prompt 1", *sizes, "## Prompt 2", *sizes)
    ]
    assert fenced(result.rows[1].samples[1]["text"]) in text


def test_nothing_that_a_model_writes_is_obeyed(tmp_path: Path) -> None:
    wrote = "a\n```\n# <img src=x onerror=alert(1)>\r````\x1b[31m\u202e"
    assert fenced(wrote) == (
        "`````text\na\n```\n# <img src=x onerror=alert(1)>\n````\\x1b[31m\\u202e\n`````"
    )  # fmt: skip
    row = SweepRow(1, 6, 10, 10, "a`\n# b", (3,), samples=({"prompt": "p", "text": " "},))
    shown = samples_document([row], {"prompts": ["p"], "new_tokens": 64}, 3)
    assert shown.endswith("### 6 layers, 10, k = 1, `a' # b`\n\n*It writes nothing.*\n")


def test_a_token_in_a_sample_is_not_told() -> None:
    assert "hf_" not in fenced("hf_" + "a" * 34)
