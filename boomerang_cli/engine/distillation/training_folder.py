"""The folder that a running distillation keeps beside its output: what `--resume` goes on from."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boomerang_cli.engine.errors import OutputError, TrainingError
from boomerang_cli.engine.output.output_marker import MARKER_FILE, foreign_names, why_not_replaced, write_marker
from boomerang_cli.engine.output.system_calls import exchange, sync_name, sync_tree, try_lock

TABLE = "training.json"
"""What is no tensor of a training's state; the tensors stand beside it (see ``parts``)."""
PROGRESS = "progress.json"
STATE = "trainer_state.json"
WEIGHTS = "weights"
"""Trained weights, while the student is written."""
_FILES = (
    *(f"checkpoint-*/{name}" for name in ("training-*.safetensors", TABLE, PROGRESS, STATE)),
    f"{WEIGHTS}/*.safetensors",
    f"{WEIGHTS}/*.json",
)

_held: set[int] = set()
"""Folders of trainings that this process holds locked."""


def _let_go_in_child() -> None:
    """Leave the locks to the process that took them: the one that reads the text may outlive it for a moment."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go_in_child)


@dataclass(frozen=True)
class TrainingFolder:
    """Checkpoints of one run, the newest complete one alone after each save."""

    path: Path

    @classmethod
    def of(cls, output: Path) -> TrainingFolder:
        return cls(output.with_name(f"{output.name}.training"))

    def of_step(self, step: int) -> Path:
        return self.path / f"checkpoint-{step}"

    def newest(self) -> Path | None:
        """Return the checkpoint of the highest step; what was not written to the end is not one."""
        complete = [path for path in self.path.glob("*") if re.fullmatch(r"checkpoint-\d+", path.name)]
        return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)

    def check_replaceable(self) -> None:
        """Refuse to begin anew in a folder that holds anything but an earlier training.

        Raises:
            OutputError: lists what it is.
        """
        if self.path.is_dir() and (why := why_not_replaced(self.path, "training")):
            raise OutputError(f"{self.path} {why}")

    def check_free(self) -> None:
        """Refuse at once, before libraries are loaded, what :meth:`held` would.

        Raises:
            OutputError: another training holds the folder.
        """
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # what it is then, is told later
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if try_lock(descriptor) is False:
                    raise self._in_use()
            finally:
                os.close(descriptor)

    def _in_use(self) -> OutputError:
        return OutputError(f"another distillation is writing {self.path}: wait for it, or give another --output")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the folder for this training alone while the block runs, and remove it in the end if it is empty.

        Raises:
            OutputError: another training holds it, or it cannot be made.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        descriptor = self._open_locked()
        _held.add(descriptor)
        try:
            yield
        finally:
            with suppress(OSError):
                if [path.name for path in self.path.iterdir()] == [MARKER_FILE]:
                    (self.path / MARKER_FILE).unlink()
                for folder in made or [self.path]:
                    folder.rmdir()
            _held.discard(descriptor)
            os.close(descriptor)

    def _open_locked(self) -> int:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            # The folder may also have gone in between, with the training that ended and removed it.
            if try_lock(descriptor) is False or not os.path.samestat(os.fstat(descriptor), self.path.stat()):
                os.close(descriptor)
                raise self._in_use()
            if not foreign_names(self.path, "training"):
                write_marker(self.path, "training", _FILES)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from None
        return descriptor

    def begin(self, step: int) -> Path:
        """Make the folder that a checkpoint is written to under a temporary name, and return it.

        Raises:
            TrainingError: it cannot be made.
        """
        partial = self._partial_of(step)
        try:
            shutil.rmtree(partial, ignore_errors=True)
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial.mkdir()
        except OSError as error:
            raise self._not_saved(step, error) from None
        return partial

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Write (the rest of) a checkpoint, rename it, and remove the older ones once it is on the disk.

        Raises:
            TrainingError: the disk is full, or may not be written; the checkpoint before this one is still there.
        """
        final, partial = self.of_step(step), self._partial_of(step)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial.mkdir(exist_ok=True)
            write(partial)
            sync_tree(partial)
            if not (final.exists() and exchange(partial, final)):  # a resumed run may save where it started
                shutil.rmtree(final, ignore_errors=True)
                partial.rename(final)
            sync_name(final)
        except (OSError, RuntimeError) as error:
            raise self._not_saved(step, error) from None
        self.clear(but=final)
        return final

    def _partial_of(self, step: int) -> Path:
        return self.path / f"checkpoint-{step}.partial"

    def _not_saved(self, step: int, error: OSError | RuntimeError) -> TrainingError:
        """Remove what was written of a checkpoint, and say why it is none."""
        reason = _reason(error)
        shutil.rmtree(self._partial_of(step), ignore_errors=True)
        return TrainingError(f"step {step} could not be saved in {self.path}: {reason}; {self.way_out()}")

    def way_out(self) -> str:
        """Say how to go on with a training that ended."""
        kept = self.newest()
        return f"go on from {kept} with --resume" if kept else "nothing was saved before"

    def clear(self, but: Path | None = None) -> None:
        """Remove what this and earlier trainings wrote, and nothing else that somebody may have put there."""
        for path in self.path.glob("*"):
            if path != but and re.fullmatch(rf"checkpoint-\d+(\.partial)?|{WEIGHTS}", path.name):
                shutil.rmtree(path, ignore_errors=True)


def _reason(error: OSError | RuntimeError) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """Read what a checkpoint records beside tensors.

    Raises:
        TrainingError: it is not one of ours.
    """
    try:
        progress = json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{checkpoint} cannot be resumed: {error}; start anew with --overwrite") from None
    if not isinstance(progress, dict):
        raise TrainingError(f"{checkpoint} cannot be resumed: {PROGRESS} holds no object; start anew with --overwrite")
    return progress
