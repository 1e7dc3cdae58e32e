"""Tasks of lm-eval put as chats: its own words reach it, and answers end where the teacher's texts do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_config, make_model, make_tokenizer, save_pair

pytest.importorskip("lm_eval", reason="needs the extra eval")

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.asked import TaskSettings
from boomerang_cli.engine.evaluation.harness import Harness, _wrapped, read_gen_kwargs
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.sweep import sweep

TASK = """\
task: tiny_answer
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
output_type: generate_until
test_split: test
fewshot_split: test
num_fewshot: 1
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["w60"]
  max_gen_toks: 8
metric_list:
  - metric: chrf
"""
TEMPLATE = (
    "{% for message in messages %}{{ {'system': 'w10', 'user': 'w11', 'assistant': 'w12'}[message.role] }} "
    "{{ message.content }} {% endfor %}{% if add_generation_prompt %}w12{% endif %}"
)
CHAT = {"apply_chat_template": True, "system_instruction": "w7", "gen_kwargs": "max_gen_toks=5,repetition_penalty=1.3"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What lm-eval is called with; it runs nothing."""
    import lm_eval

    class NoTasks:
        all_tasks = ("tiny",)

        def __init__(self, **_: Any) -> None: ...

    given: dict[str, Any] = {}
    monkeypatch.setattr("lm_eval.tasks.TaskManager", NoTasks)
    monkeypatch.setattr(lm_eval, "simple_evaluate", lambda **settings: given.update(settings) or {"results": {}})
    return given


def test_the_words_of_lm_eval_reach_it(asked: dict[str, Any]) -> None:
    model = make_model(make_config("llama"), 1)
    Harness(TaskSettings(["tiny"], **CHAT)).run("tiny", model, make_tokenizer())
    assert asked["apply_chat_template"] is asked["fewshot_as_multiturn"] is True
    assert asked["system_instruction"] == "w7"
    assert asked["gen_kwargs"] == {"max_gen_toks": 5, "repetition_penalty": 1.3}


def test_turns_are_made_with_the_template_unless_they_are_declined() -> None:
    assert TaskSettings(["a"], apply_chat_template=True).multiturn
    assert not TaskSettings(["a"], apply_chat_template=True, fewshot_as_multiturn=False).multiturn
    assert not TaskSettings(["a"]).multiturn


def test_an_answer_ends_at_every_token_that_the_generation_config_ends_with() -> None:
    from lm_eval.api.instance import Instance

    model, tokenizer = make_model(make_config("llama"), 1), make_tokenizer()

    def answers() -> list[list[str]]:
        wrapped = _wrapped(model, tokenizer, 2)
        generation = {"until": [], "max_gen_toks": 8, "do_sample": False}
        asked = [
            Instance("generate_until", {}, (text, generation), index) for index, text in enumerate(("w3", "w4 w5"))
        ]
        return [answer.split() for answer in wrapped.generate_until(asked, disable_tqdm=True)]

    free = answers()
    model.generation_config.eos_token_id = [2, int(free[0][2][1:])]
    expected = [answer[: answer.index(free[0][2])] if free[0][2] in answer else answer for answer in free]
    assert answers() == expected
    assert len(expected[0]) == free[0].index(free[0][2]) < 8


@pytest.mark.parametrize(("given", "message"), [
    ("temperature", "'temperature' is no name=value: give them as temperature=0.7,top_p=0.8"),
    ("temprature=0.7", "--gen-kwargs temprature is no argument of generation: did you mean temperature"),
    ('until=["a","b"]', "is no name=value: give them as"),
    ('{"until": [', "is no JSON object"),
])  # fmt: skip
def test_arguments_that_nothing_takes_are_refused(given: str, message: str) -> None:
    with pytest.raises(ScoringError) as raised:
        read_gen_kwargs(given)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_arguments_are_read_as_lm_eval_reads_them() -> None:
    assert read_gen_kwargs("temperature=0.7,do_sample=True,top_k=20") == {
        "temperature": 0.7, "do_sample": True, "top_k": 20
    }  # fmt: skip
    assert read_gen_kwargs('{"until": ["a", "b"]}') == read_gen_kwargs({"until": ["a", "b"]}) == {"until": ["a", "b"]}
    assert read_gen_kwargs(None) == {}


def test_every_word_that_changes_the_numbers_is_part_of_what_is_known() -> None:
    words = [{}, *({name: value} for name, value in CHAT.items()), {"gen_kwargs": "top_k=1"}]
    words += [{"apply_chat_template": True, "fewshot_as_multiturn": False}, {"system_instruction": "w8"}]
    assert len({TaskSettings(["a"], **each).key for each in words}) == len(words)
    assert len({TaskSettings(["a"], **each).suffix for each in words}) == len(words)
    assert TaskSettings(["a"], limit=5).suffix == ""


@pytest.mark.slow
def test_a_composed_model_chats_as_lm_eval_has_its_folder_chat(tmp_path: Path) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    teacher, student = save_pair(tmp_path, "qwen3", max_position_embeddings=512)
    (teacher / "chat_template.jinja").write_text(TEMPLATE)
    rows = [{"question": f"w{5 + row} w4", "answer": f"w{20 + row} w30 w31 w32"} for row in range(6)]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "tiny.yaml").write_text(TASK.format(file=tmp_path / "test.jsonl"))
    asked = {"tasks": ["tiny_answer"], "batch_size": 2, **CHAT}
    sweep(student=student, layers=[1], include_path=tmp_path / "tasks", output=tmp_path / "sweep", **asked)
    (path,) = (tmp_path / "sweep" / "lm_eval").rglob("*.json")
    made = patch(layers=1, student=student, output=tmp_path / "model")
    shutil.copy(teacher / "chat_template.jinja", made.path)
    alone = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(made.path), "dtype": "float32"},
        device="cpu",
        fewshot_as_multiturn=True,
        task_manager=TaskManager(include_path=str(tmp_path / "tasks")),
        **asked,
    )
    assert json.loads(path.read_text())["results"] == json.loads(json.dumps(alone["results"]))
