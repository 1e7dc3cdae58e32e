"""Tasks of lm-eval on composed models, with a task and a dataset of our own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import in_two_processes
from tiny_models import save_pair

pytest.importorskip("lm_eval", reason="needs the extra eval")

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.harness import Harness, TaskSettings, metrics
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.sweep import sweep

TASK = """\
task: tiny_choice
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list:
  - metric: acc
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    save_pair(folder, "qwen3")  # tied: HFLM ties the weights of what it gets
    generator = torch.Generator().manual_seed(1)
    rows = []
    for _ in range(12):
        words = torch.randint(3, 64, (6,), generator=generator).tolist()
        question, *choices = " ".join(f"w{word}" for word in words[:3]), *(f"w{word}" for word in words[3:])
        rows.append({"question": question, "choices": choices, "label": words[0] % 3})
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "tasks").mkdir()
    (folder / "tasks" / "tiny_choice.yaml").write_text(TASK.format(file=folder / "test.jsonl"))
    return folder


def run(folder: Path, output: Path, **settings: Any) -> Any:
    given = {
        "student": folder / "student",
        "tasks": ["tiny_choice"],
        "include_path": folder / "tasks",
        "output": output,
    }
    return sweep(**{"order": ["last"], "batch_size": 4, **given, **settings})


def choices_of(folder: Path, output: Path, layers: int) -> list[float]:
    """Run lm-eval by itself on the folder that ``patch`` writes."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    patch(layers=layers, order="last", student=folder / "student", output=output)
    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(output), "dtype": "float32"},
        tasks=["tiny_choice"],
        batch_size=4,
        device="cpu",
        task_manager=TaskManager(include_path=str(folder / "tasks")),
    )
    return metrics(results)["tiny_choice"]["acc"]


@pytest.mark.slow
def test_a_composed_model_answers_as_its_written_folder_does(folder: Path, tmp_path: Path) -> None:
    rows = run(folder, tmp_path / "sweep").rows
    found = [row.tasks["tiny_choice"]["acc"] for row in rows]
    assert found == [choices_of(folder, tmp_path / str(row.layers), row.layers) for row in rows]


def test_the_json_of_lm_eval_is_kept_for_each_size(folder: Path, tmp_path: Path) -> None:
    row = run(folder, tmp_path / "sweep", layers=[1]).rows[0]
    (path,) = (tmp_path / "sweep" / "lm_eval").rglob("*.json")
    assert str(path.relative_to(tmp_path / "sweep")) == "lm_eval/6L-blocks-3/tiny_choice.json"
    assert metrics(json.loads(path.read_text())) == row.tasks


def test_a_limit_is_a_number_of_examples(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "sweep", layers=[1], limit=5)
    (path,) = (tmp_path / "sweep" / "lm_eval").rglob("*.json")
    assert json.loads(path.read_text())["n-samples"]["tiny_choice"]["effective"] == 5


def run_and_tell(folder: Path, output: Path) -> None:
    """Sweep in one of several processes, and write down what it was given back."""
    torch.set_num_threads(1)
    rows = run(folder, output, layers=[0, 3]).rows
    Path(f"{output}-{os.environ['RANK']}").write_text(repr([row.tasks for row in rows]))


def test_tasks_that_two_processes_share_out_have_the_numbers_of_one(folder: Path, tmp_path: Path) -> None:
    expected = repr([row.tasks for row in run(folder, tmp_path / "one", layers=[0, 3]).rows])
    in_two_processes(run_and_tell, folder, tmp_path / "two")
    assert [(tmp_path / f"two-{rank}").read_text() for rank in range(2)] == [expected] * 2
    kept = [sorted(str(path.relative_to(top)) for path in top.rglob("*.json")) for top in
            (tmp_path / "one" / "lm_eval", tmp_path / "two" / "lm_eval")]  # fmt: skip
    assert kept[0] == kept[1]


def test_a_task_that_is_known_is_not_run_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(folder, tmp_path / "sweep", layers=[1])
    monkeypatch.setattr(Harness, "run", None)
    assert run(folder, tmp_path / "sweep", layers=[1]) == first


def test_an_unknown_task_is_refused_before_anything_is_scored(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="--tasks tiny_choise is no task of lm-eval: did you mean tiny_choice"):
        run(folder, tmp_path / "sweep", tasks=["tiny_choise"])
    assert not (tmp_path / "sweep").exists()


def test_a_task_without_its_dataset_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "gone.yaml").write_text(TASK.format(file=tmp_path / "gone.jsonl").replace("tiny_choice", "gone"))
    with pytest.raises(ScoringError, match="--tasks gone failed: ") as raised:
        run(folder, tmp_path / "sweep", tasks=["gone"], include_path=tmp_path, layers=[0])
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "sweep").exists()  # it was found out before anything was scored


def test_settings_that_change_the_numbers_are_part_of_what_is_known() -> None:
    assert TaskSettings(["a"], limit=5).key != TaskSettings(["a"], num_fewshot=5).key
