"""``init-student --delta`` of models on the Hub: three repositories, read by range, under any of their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from delta_models import record, save_trio
from files import edit_json, names, tensor_bytes
from hub_double import HubDouble
from running import assert_refused

from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.init_student import InitStudentResult, init_student
from boomerang_cli.engine.output.verify import Verification
from boomerang_cli.engine.pair.published import PUBLISHED_STUDENTS

OLMO = "Harvard-DCML/ADAPT-Olmo-3-4.3B-Instruct"
OLMO_FORMER = "Harvard-DCML/ADAPT-Olmo3-4.3B-Instruct"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_trio(tmp_path_factory.mktemp("trio"))
    edit_json(folder / "student" / "student_config.json", teacher="lab/base")
    return folder


@pytest.fixture
def trio(hub: HubDouble, folders: Path) -> HubDouble:
    for name in ("base", "student", "chat"):
        hub.add_model(f"lab/{name}", folders / name)
    return hub


def added(output: Path, **options: object) -> InitStudentResult:
    return init_student("lab/chat", **{"delta": "lab/student", "output": output, **options})  # type: ignore[arg-type]


def local(folders: Path, output: Path, **options: object) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    given = {"delta": folders / "student", "base": folders / "base", "output": output, **options}
    return tensor_bytes(init_student(folders / "chat", **given).path)  # type: ignore[arg-type]


@pytest.mark.parametrize("fetched", [2**22, 1_000])
@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_sum_by_ranges_is_that_of_local_folders(
    trio: HubDouble, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: int, dtype: str
) -> None:
    monkeypatch.setattr("boomerang_cli.engine.output.moves._FETCH_BYTES", fetched)
    monkeypatch.setattr("boomerang_cli.engine.output.moves._BLOCK_VALUES", 100)
    made = added(tmp_path / "remote", dtype=dtype)
    assert tensor_bytes(made.path) == local(folders, tmp_path / "local", dtype=dtype)


def test_a_model_of_this_disk_and_two_of_the_hub_are_summed(trio: HubDouble, folders: Path, tmp_path: Path) -> None:
    made = added(tmp_path / "mixed", base=folders / "base", verify=True)
    assert tensor_bytes(made.path) == local(folders, tmp_path / "local")
    assert made.verified == Verification(len(made.plan.copies), 0, made.bytes)


def test_a_dry_run_tells_what_is_fetched_of_each_repository(trio: HubDouble, tmp_path: Path) -> None:
    plan = added(tmp_path / "out", dry_run=True).plan
    beside = sum(file.size_bytes for file in plan.companions)
    weights = plan.size_bytes  # all three are float32
    assert plan.fetch_bytes == {"lab/chat": weights + beside, "lab/student": weights, "lab/base": weights}
    assert sum(request.bytes_sent for request in trio.seen("GET", "/objects/")) <= 3 * 100_000
    assert not (tmp_path / "out").exists()


def test_the_commits_of_all_three_are_recorded(trio: HubDouble, tmp_path: Path) -> None:
    made = added(tmp_path / "out", delta_scale=0.5)
    commits = {name: trio.commits(f"lab/{name}")[0].oid for name in ("chat", "student", "base")}
    told = record(made.path)
    assert (told["teacher"], told["teacher_revision"]) == ("lab/chat", commits["chat"])
    assert told["weight_delta"] == {
        "student": "lab/student", "student_revision": commits["student"],
        "base": "lab/base", "base_revision": commits["base"], "scale": 0.5,
    }  # fmt: skip
    card = (made.path / "README.md").read_text()
    assert all(f"[lab/{name}](https://huggingface.co/lab/{name})" in card for name in commits)
    assert "base_model:\n- lab/chat\n- lab/student\n- lab/base\nbase_model_relation: merge\n" in card


def test_a_delta_on_its_own_base_fetches_the_student_alone(trio: HubDouble, folders: Path, tmp_path: Path) -> None:
    trio.rename("lab/base", "lab/renamed")
    made = init_student("lab/renamed", delta="lab/student", output=tmp_path / "out")  # it records lab/base
    assert tensor_bytes(made.path) == tensor_bytes(folders / "student")
    assert made.plan.fetch_bytes["lab/student"] == made.bytes
    assert made.plan.fetch_bytes["lab/renamed"] < 100_000


def test_a_student_on_the_hub_that_records_somebodys_disk_has_no_base(trio: HubDouble, tmp_path: Path) -> None:
    files = trio.files("lab/student")
    told = {**json.loads(files["student_config.json"]), "teacher": "/home/somebody/base"}
    trio.add_model("lab/student", {**files, "student_config.json": json.dumps(told).encode()})
    words = ("init-student", "lab/chat", "--delta", "lab/student", "-o", tmp_path / "out")
    assert_refused(*words, message="records a teacher on somebody's disk, '/home/somebody/base': give --base")
    assert names(tmp_path) == ["cache"]


# Renamed repositories


@pytest.mark.parametrize("download", [False, True])
def test_a_renamed_repository_is_read_by_either_name(
    trio: HubDouble, folders: Path, tmp_path: Path, download: bool
) -> None:
    trio.rename("lab/chat", "lab/chat-2507")
    former, present = (open_checkpoint(name, download=download) for name in ("lab/chat", "lab/chat-2507"))
    assert (former.name, present.name) == ("lab/chat", "lab/chat-2507")
    assert former.revision == present.revision
    assert tensor_bytes(added(tmp_path / "out", download=download).path) == local(folders, tmp_path / "local")


@pytest.mark.parametrize("name", [OLMO, OLMO_FORMER])
def test_a_renamed_published_student_has_its_base_and_its_order(hub: HubDouble, tmp_path: Path, name: str) -> None:
    folders = save_trio(tmp_path / "trio", "olmo3")
    edit_json(folders / "student" / "student_config.json", teacher=None)
    hub.add_model(OLMO_FORMER, folders / "student")
    hub.rename(OLMO_FORMER, OLMO)
    hub.add_model(PUBLISHED_STUDENTS[OLMO].teacher, folders / "base")
    made = init_student(folders / "chat", delta=name, output=tmp_path / "out")
    assert made.weight_delta is not None
    assert (made.weight_delta.student, made.weight_delta.base) == (name, "allenai/Olmo-3-7B-Instruct")
    assert record(made.path)["order"] == "first"
