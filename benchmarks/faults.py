"""Commands that are killed, starved and disturbed: the old state or the new one, and the next run works.

    python benchmarks/faults.py
    python benchmarks/faults.py --times 10 --fault "kill patch"

Each fault is played so many times, on a tiny pair, against a Hub on loopback where one is needed. What is printed is
how often the old state was found and how often the new one; any other stops the script. Disks that are full or
read-only are small tmpfs mounts, which only root can make: without it they are left out, and said so.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from distilling import RECIPE, make_project
from files import names
from hub_double import HubDouble
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from typer.main import get_command

from boomerang_cli.cli.app import app
from boomerang_cli.engine import (
    distill,  # noqa: F401  (so that no child spends its life importing)
    sweep,  # noqa: F401
)
from boomerang_cli.engine.output.output_marker import MARKER_FILE

State = dict[str, bytes]
COMMAND = get_command(app)
QUICK = ("--quiet", "--overwrite")
FAULTS: dict[str, Callable[[int, random.Random], Counter[str]]] = {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", choices=FAULTS, action="append", help="all by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.fault or FAULTS:
        started = time.monotonic()
        with project():
            found = FAULTS[name](options.times, random.Random(options.seed))
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(found.items()))
        print(f"{name:28} {told} ({time.monotonic() - started:.0f} s)", flush=True)
    return 0


def fault(name: str) -> Callable[[Callable[..., Counter[str]]], Callable[..., Counter[str]]]:
    def register(play: Callable[..., Counter[str]]) -> Callable[..., Counter[str]]:
        FAULTS[name] = play
        return play

    return register


@contextmanager
def project() -> Iterator[Path]:
    """Stand in a folder with a teacher, a student, and text."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stderr(io.StringIO()):
            make_project(Path(folder), hidden_size=128, intermediate_size=512)
        shutil.copytree(Path(folder) / "student-init", Path(folder) / "student")
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(here)


# Running commands in children of this process, which has imported all that they need


def start(*words: str, before: Callable[[], object] | None = None) -> int:
    """Start ``boomerang`` with these words, and return the process's id; its streams go to the file ``log``."""
    if child := os.fork():
        return child
    code = 70
    try:
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        sys.stdout, sys.stderr = os.fdopen(log, "w"), os.fdopen(os.dup(log), "w", buffering=1)
        sys.argv = ["boomerang", *words]
        if before:
            before()
        COMMAND(list(words), prog_name="boomerang")
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # in any case: a child that came back from here would go on with what its parent does
            os._exit(code)


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(*words: str, code: int = 0, before: Callable[[], object] | None = None) -> None:
    found = finish(start(*words, before=before))
    expect(found == code, f"exit code {found}, not {code}: {' '.join(words)}\n{Path('log').read_text()}")
    if code == 1:
        lines = Path("log").read_text().splitlines()
        expect(sum(line.startswith("error: ") for line in lines) == 1 and "unexpected" not in lines[-1], str(lines))


def killed(words: tuple[str, ...], seconds: float, chance: random.Random) -> None:
    """Run a command and kill it at some moment of the time that it takes."""
    child = start(*words)
    time.sleep(chance.uniform(0, 1.1 * seconds))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def seconds_of(*words: str) -> float:
    started = time.monotonic()
    run(*words)
    return time.monotonic() - started


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise SystemExit(f"FAILED: {message}")


def content(folder: Path | str) -> State:
    folder = Path(folder)
    return (
        {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()} if folder.is_dir() else {}
    )


def which(found: State, states: Mapping[str, State]) -> str:
    """Name the state that was found; any other than those expected ends the script."""
    for name, state in states.items():
        if found == state:
            return name
    raise SystemExit(f"FAILED: a state that is neither {' nor '.join(states)}: {sorted(found)}")


def model_of(*words: str) -> State:
    """Return what a command writes to ``model``, and leave it there."""
    run(*words, *QUICK)
    return content("model")


# Kills


@fault("kill patch")
def kill_patch(times: int, chance: random.Random) -> Counter[str]:
    words = ("patch", "--layers", "2", "-o", "model", *QUICK)
    seconds = seconds_of(*words)
    new, found = content("model"), Counter[str]()
    for _ in range(times):
        old = model_of("patch", "--layers", "1", "-o", "model")
        killed(words, seconds, chance)
        found[which(content("model"), {"old": old, "new": new})] += 1
        run(*words)
        expect(content("model") == new and not list(Path().glob(".model*")), "the next run leaves something behind")
    return found


@fault("kill sweep")
def kill_sweep(times: int, chance: random.Random) -> Counter[str]:
    words = ("sweep", "--data", "held-out.txt", "--sequence-length", "16", "--write", "--quiet")
    seconds = seconds_of(*words)
    whole, found = sweep_state(), Counter[str]()
    for _ in range(times):
        shutil.rmtree("sweep")
        killed(words, seconds, chance)
        state = sweep_state()
        expect(all(whole[name] == data for name, data in state.items()), f"half a file: {sorted(state)}")
        found["new" if state == whole else f"old, or {len(state) and 'some'} sizes" if state else "old"] += 1
        run(*words)
        expect(sweep_state() == whole, "the next run ends elsewhere")
        expect(
            [*Path("sweep").glob(".*")] == [Path("sweep", MARKER_FILE)], f"something is left: {names(Path('sweep'))}"
        )
    return found


def sweep_state() -> State:
    """Return the bytes of the models that a sweep has written; results hold times, which differ."""
    return {str(path): path.read_bytes() for path in sorted(Path("sweep").glob("*/*")) if path.name != "boomerang.json"}


@fault("kill distill")
def kill_distill(times: int, chance: random.Random) -> Counter[str]:
    words = ("distill", "--data", "train.txt", *RECIPE, "--save-every", "2", "-o", "made", "--quiet")
    seconds = seconds_of(*words)
    new, found = load_file("made/model.safetensors"), Counter[str]()
    for _ in range(times):
        shutil.rmtree("made", ignore_errors=True)
        shutil.rmtree("made.training", ignore_errors=True)
        killed(words, seconds, chance)
        found["new" if Path("made").exists() else "old"] += 1
        if not Path("made").exists():
            run(*words, *(["--resume"] if any(Path("made.training").glob("checkpoint-?")) else ["--overwrite"]))
        made = load_file("made/model.safetensors")
        same = all(torch.allclose(made[name], new[name], atol=1e-5) for name in new)
        expect(same and made.keys() == new.keys(), "what was resumed is not what runs through")
    return found


@fault("kill push")
def kill_push(times: int, chance: random.Random) -> Counter[str]:
    old, found = model_of("patch", "--layers", "1", "-o", "model"), Counter[str]()
    new = model_of("patch", "--layers", "2", "-o", "model")
    with hub() as double:
        seconds = seconds_of("push", "model", "tester/timing", "--quiet")
        expected = double.files("tester/timing")
        for number in range(times):
            repo = f"tester/model-{number}"
            double.add_model(repo, old)
            words = ("push", "model", repo, "--quiet")
            killed(words, seconds, chance)
            state = double.files(repo)
            whole = state == old or state.items() >= {"model.safetensors": new["model.safetensors"]}.items()
            expect(whole, f"half: other than before are {sorted(dict(state.items() - old.items()))}")
            found["old" if state == old else "new"] += 1
            run(*words)
            expect(double.files(repo)["model.safetensors"] == expected["model.safetensors"], "the next push differs")
    return found


@fault("kill patch --push")
def kill_patch_push(times: int, chance: random.Random) -> Counter[str]:
    """What a killed run leaves of its temporary model goes with the next run."""
    words, found = ("patch", "--layers", "2", "--quiet", "--push"), Counter[str]()
    temporaries = Path("temporaries").absolute()
    temporaries.mkdir()
    with hub() as double, mock.patch.object(tempfile, "tempdir", str(temporaries)):
        seconds = seconds_of(*words, "tester/timing")
        expected = double.files("tester/timing")
        for number in range(times):
            killed((*words, f"tester/model-{number}"), seconds, chance)
            found["something left, and removed" if names(temporaries) else "nothing left"] += 1
            run(*words, f"tester/model-{number}")
            expect(names(temporaries) == [], f"something is left: {names(temporaries)}")
            sent = double.files(f"tester/model-{number}")
            expect(sent["model.safetensors"] == expected["model.safetensors"], "the next push differs")
    return found


@contextmanager
def hub() -> Iterator[HubDouble]:
    """A Hub on loopback that commands of this process's children speak to."""
    with HubDouble() as double, tempfile.TemporaryDirectory() as cache:
        address = double.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        changes = {"HUGGINGFACE_CO_URL_TEMPLATE": address, "HF_HUB_CACHE": cache, "HF_HUB_DISABLE_XET": True}
        with (
            mock.patch.multiple(constants, ENDPOINT=double.endpoint, **changes),
            mock.patch.dict(os.environ, HF_TOKEN=double.token),
            mock.patch.object(ThreadingHTTPServer, "handle_error"),  # clients that are killed are no news
        ):
            yield double


# Disks


@fault("disk full")
def disk_full(times: int, chance: random.Random) -> Counter[str]:
    """The space that is looked up first is said to be there, so that the disk fills up while it is written."""
    run("patch", "--layers", "2", "-o", "model", *QUICK)
    size, found = sum(map(len, content("model").values())), Counter[str]()
    for _ in range(times):
        with small_disk(f"size={chance.randrange(4096, size)}") as disk:
            if disk is None:
                return Counter({"left out: only root can mount": 1})
            run("patch", "--layers", "2", "-o", str(disk / "m"), "--quiet", code=1, before=lie_about_space)
            expect(names(disk) == [], f"something is left: {names(disk)}")
            found["old"] += 1
    run("patch", "--layers", "2", "-o", "model", *QUICK)
    return found


@fault("disk full, overwriting")
def disk_full_overwriting(times: int, chance: random.Random) -> Counter[str]:
    run("patch", "--layers", "1", "-o", "model", *QUICK)
    size, found = sum(map(len, content("model").values())), Counter[str]()
    for _ in range(times):
        with small_disk(f"size={size * 2 - chance.randrange(size // 2)}") as disk:
            if disk is None:
                return Counter({"left out: only root can mount": 1})
            shutil.copytree("model", disk / "m")
            run("patch", "--layers", "2", "-o", str(disk / "m"), *QUICK, code=1, before=lie_about_space)
            expect(names(disk) == ["m"], f"something is left: {names(disk)}")
            found[which(content(disk / "m"), {"old": content("model")})] += 1
    return found


@fault("read-only target")
def read_only(times: int, chance: random.Random) -> Counter[str]:
    found = Counter[str]()
    for _ in range(times):
        with small_disk("size=64m,ro") as disk:
            if disk is None:
                return Counter({"left out: only root can mount": 1})
            run("patch", "--layers", "2", "-o", str(disk / "m"), "--quiet", code=1)
            found["old"] += 1
    return found


def lie_about_space() -> None:
    usage = shutil.disk_usage("/")
    shutil.disk_usage = lambda path: usage._replace(free=2**60)


@contextmanager
def small_disk(options: str) -> Iterator[Path | None]:
    disk = Path(tempfile.mkdtemp())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, check=False)
    try:
        yield disk if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", disk], check=True)
        disk.rmdir()


# Others at work


@fault("source changed while read")
def source_changed(times: int, chance: random.Random) -> Counter[str]:
    """Another process gives the teacher other weights, in place or by a rename, while ``patch`` reads it."""
    words, path = ("patch", "--layers", "3", "-o", "model", *QUICK), Path("teacher/model.safetensors")
    first = path.read_bytes()
    seconds = seconds_of(*words)
    old, found = content("model"), Counter[str]()
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    run(*words)
    second, new = path.read_bytes(), content("model")
    for _ in range(times):
        path.write_bytes(first)
        run(*words)
        child = start(*words)
        time.sleep(chance.uniform(0, seconds))
        if chance.random() < 0.5:
            path.write_bytes(second)
        else:
            Path("other").write_bytes(second)
            Path("other").replace(path)
        refused = finish(child) == 1
        state = which(content("model"), {"old": old, "new": new})
        found[f"{state}, refused" if refused else state] += 1
    run(*words)
    return found


@fault("clock jumps")
def clock_jumps(times: int, chance: random.Random) -> Counter[str]:
    """Sources and what a killed run left come from the past or the future."""
    words, found = ("patch", "--layers", "2", "-o", "model", *QUICK), Counter[str]()
    run(*words)
    new = content("model")
    for _ in range(times):
        Path(".model.partial-left").mkdir()
        for path in (*Path().glob("*/*"), Path(".model.partial-left")):
            os.utime(path, (chance.randrange(-(2**31), 2**33),) * 2)
        run(*words)
        expect(not list(Path().glob(".model*")), "what was left is still there")
        found[which(content("model"), {"new": new})] += 1
    return found


@fault("two patches, one output")
def two_patches(times: int, chance: random.Random) -> Counter[str]:
    states, found = {}, Counter[str]()
    for layers in ("1", "2"):
        states[layers] = model_of("patch", "--layers", layers, "-o", "model", "--quiet", "--overwrite")
    for overwrite in (False, True):
        for _ in range(-(-times // 2)):
            if not overwrite:
                shutil.rmtree("model")
            words = [("patch", "--layers", layers, "-o", "model", *QUICK[: 1 + overwrite]) for layers in states]
            children = [start(*each) for each in words]
            codes = [finish(child) for child in children]
            expect(set(codes) <= {0, 1} and 0 in codes, f"exit codes {codes}\n{Path('log').read_text()}")
            expect(overwrite or sorted(codes) == [0, 1], f"both wrote: {codes}")
            records = [
                {name: data for name, data in state.items() if name != "boomerang.json"} for state in states.values()
            ]
            kept = {name: data for name, data in content("model").items() if name != "boomerang.json"}
            expect(kept in records and (overwrite or kept == records[codes.index(0)]), "a mixture")
            expect(not list(Path().glob(".model*")), "something is left")
            found["both, one after the other" if codes == [0, 0] else "one, and one refused"] += 1
    return found


@fault("two sweeps, one output")
def two_sweeps(times: int, chance: random.Random) -> Counter[str]:
    words = ("sweep", "--data", "held-out.txt", "--sequence-length", "16", "--write", "--quiet")
    run(*words)
    whole, found = sweep_state(), Counter[str]()
    for _ in range(max(1, times // 5)):
        shutil.rmtree("sweep")
        children = [start(*words) for _ in range(2)]
        codes = sorted(finish(child) for child in children)
        expect(codes in ([0, 0], [0, 1]), f"exit codes {codes}\n{Path('log').read_text()}")
        expect(sweep_state() == whole, "a mixture")
        found["both, one after the other" if codes == [0, 0] else "one, and one refused"] += 1
    return found


if __name__ == "__main__":
    raise SystemExit(main())
