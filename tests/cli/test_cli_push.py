"""push, and patch from and to the Hub, as typed in a shell: what is printed where, exit codes, no token anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from files import names
from hub_double import HubDouble
from tiny_models import save_pair

from boomerang_cli.engine.patch import patch

PROGRAM = """\
import sys
from boomerang_cli.cli.app import app
try:
    app(sys.argv[1:], prog_name="boomerang")
finally:
    assert "torch" not in sys.modules
"""


class Shell:
    """Runs commands in ``folder`` against a Hub of its own, and looks for the token in all that they print."""

    def __init__(self, hub: HubDouble, folder: Path) -> None:
        self.hub, self.folder = hub, folder

    def run(self, *words: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.hub.environment(self.folder / ".home"), **variables}
        command = [sys.executable, "-c", PROGRAM, *words]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, check=False, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == code, done.stderr
        assert self.hub.token not in done.stdout + done.stderr
        return done

    def refused(self, *words: str, **variables: str) -> str:
        """Return the one line that a failing command prints."""
        done = self.run(*words, code=1, **variables)
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        return done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with a pair and a patched model."""
    folder = tmp_path_factory.mktemp("project")
    teacher, student = save_pair(folder, "llama")
    patch(layers=1, student=student, teacher=teacher, output=folder / "patched")
    return folder


@pytest.fixture
def shell(hub: HubDouble, folder: Path) -> Shell:
    hub.add_model("lab/teacher", folder / "teacher")
    return Shell(hub, folder)


def test_push_prints_the_url_alone_on_stdout(shell: Shell) -> None:
    done = shell.run("push", "patched", "tester/model", "--private")
    assert done.stdout == f"{shell.hub.endpoint}/tester/model\n"
    assert done.stderr.startswith("sending ")
    assert shell.hub.repos["tester/model"].private


def test_push_tells_json_what_was_sent(shell: Shell) -> None:
    told = json.loads(shell.run("push", "patched", "tester/model", "--quiet", "--json").stdout)
    assert {*told} == {
        "repo", "revision", "commit", "files", "bytes", "url", "removed", "changed", "notes", "portable", "misreaders",
    }  # fmt: skip
    assert told["commit"] == shell.hub.commits("tester/model")[0].oid
    assert told["bytes"] == sum(each["bytes"] for each in told["files"])


def test_a_dry_run_of_push_lists_the_files(shell: Shell) -> None:
    done = shell.run("push", "patched", "tester/model", "--dry-run")
    assert {line.split()[0] for line in done.stdout.splitlines()[1:]} == {
        f"tester/model/{name}" for name in names(shell.folder / "patched")
    }
    assert not shell.hub.repos.keys() - {"lab/teacher"}


def test_patch_reads_from_the_hub_and_tells_beforehand_how_much(shell: Shell) -> None:
    words = ("patch", "--layers", "1", "--student", "student", "--teacher", "lab/teacher")
    done = shell.run(*words, "--dry-run", "--json")
    assert {*json.loads(done.stdout)["fetch_bytes"]} == {"lab/teacher"}
    assert "would be fetched from lab/teacher" in done.stderr
    shell.run(*words, "-o", "from-hub")
    weights = "model.safetensors"
    assert (shell.folder / "from-hub" / weights).read_bytes() == (shell.folder / "patched" / weights).read_bytes()


def test_patch_writes_to_the_hub_and_prints_the_url(shell: Shell) -> None:
    before = names(shell.folder)
    done = shell.run("patch", "--layers", "1", "--student", "student", "--push", "tester/model")
    assert done.stdout == f"{shell.hub.endpoint}/tester/model\n"
    assert {*names(shell.folder)} - {".home"} == {*before} - {".home"}


def test_a_failure_is_one_line_and_the_token_is_not_in_a_traceback_either(shell: Shell) -> None:
    shell.hub.fail("POST", "/commit/", status=403, times=None)
    words = ("push", "patched", "tester/model", "--quiet")
    assert "cannot write to tester/model: the token has no right to" in shell.refused(*words)
    done = shell.run(*words, code=1, BOOMERANG_DEBUG="1")
    assert "Traceback" in done.stderr


def test_offline_the_shell_is_told_what_is_missing(shell: Shell) -> None:
    line = shell.refused("init-student", "lab/absent", HF_HUB_OFFLINE="1")
    assert line == "error: lab/absent is not in the local cache, and HF_HUB_OFFLINE is set\n"
