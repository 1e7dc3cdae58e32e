"""The process around a command: Ctrl-C while modules load, and streams that are closed, full or narrow."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from files import names
from running import assert_refused, run
from test_cli import COMMANDS

from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.patch import patch

PROGRAM = (sys.executable, "-m", "boomerang_cli")
INIT = ("init-student", "builtin:demo", "-o", "made")
INTERRUPTED_IMPORT = (
    "import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(5)\n"
    "except BaseException:\n    raise ImportError('what was interrupted') from None\n"
)


def shell(folder: Path, *arguments: str, after: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``boomerang`` in a shell, with redirections ``after`` it."""
    return subprocess.run(
        ["bash", "-c", f"{shlex.join([*PROGRAM, *arguments])} {after}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        check=False,
        capture_output=True,
    )


# Ctrl-C


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores them


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("torch", ["distill"]),
        ("torch", [*INIT, "--random-init"]),
        ("huggingface_hub", ["push", ".", "me/model"]),
        ("typer", ["--help"]),
    ],
)
def test_an_interrupt_that_an_import_turns_into_another_error_is_one(
    tmp_path: Path, module: str, command: list[str]
) -> None:
    (tmp_path / f"{module}.py").write_text(INTERRUPTED_IMPORT)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [*PROGRAM, *command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=False,
        capture_output=True, text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout, last) == (130, "", "error: interrupted")
    assert done.stderr.count("interrupted") == 1
    assert "Traceback" not in done.stderr


def test_an_interrupt_waits_for_a_short_import_so_that_work_is_tidied_up(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhole = True\n")
    code = (
        "import time\nfrom boomerang_cli.cli import interrupts\ninterrupts.install()\n"
        "try:\n    import short\n    time.sleep(5)\nexcept KeyboardInterrupt:\n    print('tidied', short.whole)"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False, capture_output=True,
        text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("tidied True\n", "")


# Closed and full


def test_closed_stderr_is_nowhere_and_the_command_works(tmp_path: Path) -> None:
    done = shell(tmp_path, *INIT, after="2>&-")
    assert (done.returncode, done.stdout) == (0, b"made\n")


def test_no_file_that_a_command_writes_becomes_a_closed_stream(tmp_path: Path) -> None:
    assert shell(tmp_path, *INIT).returncode == 0
    assert shell(tmp_path, *INIT[:3], "other", after="<&- >&- 2>&-").returncode == 0
    for name in names(tmp_path / "made"):
        assert (tmp_path / "other" / name).read_bytes() == (tmp_path / "made" / name).read_bytes()


@pytest.mark.parametrize("arguments", [["--version"], ["patch", "--help"], [*INIT, "--dry-run", "--quiet"]])
def test_a_full_disk_under_stdout_is_one_line_and_exit_code_1(tmp_path: Path, arguments: list[str]) -> None:
    done = shell(tmp_path, *arguments, after=">/dev/full")
    assert done.returncode == 1
    assert done.stderr == b"error: the result cannot be printed on stdout: No space left on device\n"


def test_a_full_disk_under_stderr_costs_no_model(tmp_path: Path) -> None:
    done = shell(tmp_path, *INIT, after="2>/dev/full")
    assert (done.returncode, done.stdout) == (0, b"made\n")


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    done = shell(tmp_path, "--version", after="| (sleep 1); exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (1, b"") or done.returncode == 0


# Encodings


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_can_be_read_in_a_narrow_encoding(tmp_path: Path, encoding: str) -> None:
    done = shell(tmp_path, "sweep", "--help", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_ascii(command: str) -> None:
    assert run(command, "--help").stdout.isascii()


def test_what_an_encoding_lacks_is_printed_in_its_own_characters(tmp_path: Path) -> None:
    code = "from boomerang_cli.cli import streams\nstreams.prepare()\nprint('12.5 ± 0.1 … é 猫 \\udcff')"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    printed = {
        encoding: subprocess.run(
            [sys.executable, "-c", code], env={**environment, "PYTHONIOENCODING": encoding}, check=True,
            capture_output=True,
        ).stdout
        for encoding in ("ascii", "latin-1", "utf-8")
    }  # fmt: skip
    assert printed["ascii"] == b"12.5 +- 0.1 ... \\xe9 \\u732b \xff\n"
    assert printed["latin-1"] == "12.5 ± 0.1 ... é \\u732b ÿ\n".encode("latin-1")
    assert printed["utf-8"] == "12.5 ± 0.1 … é 猫 ".encode() + b"\xff\n"


def test_a_name_that_is_no_utf_8_goes_out_as_its_bytes_and_comes_back_from_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    assert shell(tmp_path, *INIT[:3], name, "--quiet").stdout == b"caf\xe9\n"
    said = shell(tmp_path, *INIT[:3], name, "--overwrite", "--json", "--quiet", PYTHONIOENCODING="latin-1")
    assert json.loads(said.stdout)["path"] == name
    assert (tmp_path / name / "model.safetensors").is_file()
    again = shell(tmp_path, "patch", "--student", name, "--layers", "1", "-o", f"{name}-1", "--quiet")
    assert (again.returncode, again.stdout) == (0, b"caf\xe9-1\n")
    assert patch(student=tmp_path / name, layers=1, output=tmp_path / f"{name}-2", verify=True).verified


@pytest.mark.parametrize(
    "command", [["distill", "caf\udce9"], ["distill", "made", "-o", "caf\udce9s"], ["sweep", "--student", "caf\udce9"]]
)
def test_a_name_that_weights_cannot_be_loaded_from_is_refused_before_work_begins(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("w1")
    for name in ("made", "caf\udce9"):
        init_student("builtin:demo", output=name)
    said = r"error: the name of .*/caf\\xe9s? is not UTF-8, safetensors cannot open it: rename it"
    assert_refused(*command, "--data", "text.txt", "--quiet", "--sequence-length", "32", message=said)
