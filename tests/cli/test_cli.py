"""The surface as a whole: fast help, exit codes, one line an error, completions, and documents that cannot drift."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from files import processor_seconds_of_children
from typer.testing import CliRunner

import boomerang_cli
from boomerang_cli.cli import completions
from boomerang_cli.cli.app import app

ROOT = Path(__file__).parents[2]
COMMANDS = [command.callback.__name__.replace("_", "-") for command in app.registered_commands if command.callback]


def run(*arguments: str, **environment: str) -> Any:
    return CliRunner().invoke(app, list(arguments), env=environment or None)


def seconds(*arguments: str) -> float:
    """Of a processor, the fastest of five: what the machine does beside it is not our time."""
    command = [sys.executable, "-m", "boomerang_cli", *arguments]
    times = []
    for _ in range(5):
        started = processor_seconds_of_children()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(processor_seconds_of_children() - started)
    return min(times)


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_answer_comes_in_under_a_third_of_a_second(flag: str) -> None:
    assert seconds(flag) < 0.3


def test_version_is_the_packages() -> None:
    assert run("--version").stdout == f"boomerang {boomerang_cli.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_imports_neither_torch_nor_transformers(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom boomerang_cli.cli.app import app\n"
        f"try: app({arguments!r})\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'transformers', 'huggingface_hub', 'numpy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_no_arguments_show_the_commands() -> None:
    shown = run().output
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments", [["patchy"], ["patch", "--layer", "x"], ["patch", "--layers", "two"], ["patch", "--blocks", "a-b"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_refusal_is_one_line_on_stderr_and_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("patch", "--layers", "2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"error: no student: .*; give --student\n", result.stderr)


def test_an_error_that_nobody_foresaw_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: Any) -> None:
        raise ValueError("first\nsecond")

    monkeypatch.setattr("boomerang_cli.engine.patch.patch", broken)
    result = run("patch", "--layers", "2")
    assert result.exit_code == 1
    assert (
        result.stderr == "error: ValueError: first second (unexpected: BOOMERANG_DEBUG=1 shows where it comes from)\n"
    )


def test_debugging_shows_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("patch", "--layers", "2", BOOMERANG_DEBUG="1").exception is not None


def test_an_interrupt_exits_with_130(tmp_path: Path) -> None:
    code = (
        "import signal, time\nimport boomerang_cli.engine.patch as patch\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background ignores it
        "patch.patch = lambda **_: (signal.raise_signal(signal.SIGINT), time.sleep(5))\n"
        "from boomerang_cli.cli.app import app\napp(['patch', '--layers', '2'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "error: interrupted\n")


# Completions


@pytest.mark.parametrize("shell", completions.SHELLS)
def test_completion_file_is_what_the_program_writes(shell: str) -> None:
    stored = (ROOT / "completions" / f"boomerang.{shell}").read_text()
    assert stored == completions.completion_script(shell)


@pytest.mark.parametrize(("typed", "offered"), [("pat", "patch"), ("patch --max-sh", "--max-shard-size")])
def test_bash_completes_commands_and_options(typed: str, offered: str) -> None:
    words = ["boomerang", *shlex.split(typed)]
    script = (
        f"source {ROOT}/completions/boomerang.bash\nCOMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}\n"
        '_boomerang_completion boomerang\necho "${COMPREPLY[@]}"'
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where pip put the program
    done = subprocess.run(["bash", "-c", script], check=False, capture_output=True, text=True, env={"PATH": path})
    assert done.stdout.split() == [offered]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_asks_at_the_first_tab_when_a_folder_of_fpath_holds_the_script(tmp_path: Path) -> None:
    shutil.copy(ROOT / "completions" / "boomerang.zsh", tmp_path / "_boomerang")
    script = (
        "compdef() {}; boomerang() { print print asked }; env() { shift 2; $1 }\n"  # the program, and zsh's own part
        f"fpath=({tmp_path}); autoload -Uz _boomerang; words=(boomerang patch --depth ''); CURRENT=4; _boomerang"
    )
    done = subprocess.run(["zsh", "-fc", script], check=True, capture_output=True, text=True)
    assert done.stdout == "asked\n"


# Documents


def test_changelog_begins_with_the_packages_version() -> None:
    versions = re.findall(r"^## \[?([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == boomerang_cli.__version__


def readme_commands() -> list[list[str]]:
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```(?:bash|console|yaml)\n(.*?)```", readme, re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    found = re.findall(rf"\bboomerang ((?:{'|'.join(COMMANDS)})\b[^\n|&;#]*)", joined)
    return [shlex.split(command) for command in found]


def test_readme_shows_every_command() -> None:
    assert {command[0] for command in readme_commands()} == {*COMMANDS}


@pytest.mark.parametrize("words", readme_commands(), ids=" ".join)
def test_flags_in_the_readme_are_flags_of_the_command(words: list[str]) -> None:
    shown = run(words[0], "--help").stdout
    flags = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert {flag for flag in flags if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", shown)} == set()


def test_readmes_two_commands_are_what_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "pip install -c constraints.txt -e . && boomerang demo" in readme
    test_command = "pip install -c constraints.txt -e '.[test]' && pytest"
    assert test_command in readme
    assert test_command in (ROOT / ".ci" / "run").read_text()
