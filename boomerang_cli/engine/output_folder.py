"""A folder that comes to be at once: written beside its place under a temporary name, and renamed when complete."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.system_calls import NO_ROOM, exchange

_PARTIAL = ".partial-"
_PREVIOUS = f"{_PARTIAL}previous"
_OURS = {"config.json", "journal.jsonl", "results.json", "student-init"}
"""What a folder that may be overwritten holds one of: a model, a sweep, or a demo's project."""


def check_output(target: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists already, before any work is done.

    Raises:
        OutputError: it exists and ``overwrite`` is not given, or it is no folder.
    """
    try:
        problem = _problem(target, overwrite)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from None
    if problem:
        raise OutputError(f"{target} {problem}")


def _problem(target: Path, overwrite: bool) -> str | None:
    """Say what keeps a folder from being written, or None."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        return "is there and is no folder: give another --output"
    if target.name == "..":
        return "names no folder of its own: give another --output"
    if not target.exists():
        return None
    if not overwrite:
        return "exists: give another --output, or --overwrite"
    if target.resolve() == Path.cwd() or target.resolve() in Path.cwd().parents:
        return "holds the current folder: it cannot be overwritten from here"
    names = {path.name for path in target.iterdir()}
    if names and not names & _OURS:  # somebody's home, given by mistake
        return "holds something else than a model: give another --output, or remove it first"
    return None


def check_writable(target: Path) -> None:
    """Refuse a place that may not be written to, before hours of work are done for it.

    Raises:
        OutputError: the disk is read-only, or the folder is somebody else's.
    """
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{target} cannot be written: {parent} is read-only, or not yours")


def check_spares(target: Path, *sources: Path) -> None:
    """Refuse an output that would take the place of the models that it is made from.

    Raises:
        OutputError: one of the folders in ``sources`` is ``target``, or lies in it.
    """
    for source in sources:
        if source.resolve().is_relative_to(target.resolve()):
            raise OutputError(f"{target} holds {source}, which the output is made from: give another --output")


@contextmanager
def output_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder to write to, and put it in ``target``'s place once the block ends without an error.

    The folder is private until then, and removed on an error. A kill leaves it behind under a name that tells what it
    is; the next run for the same target removes it.

    Raises:
        OutputError: as in :func:`check_output`, or the disk is full or may not be written.
    """
    place = target.absolute()
    _recover(place)
    check_output(target, overwrite=overwrite)
    partial: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(place)
        remove_abandoned_temporaries()
        with _private_folder(place) as partial:
            yield partial
            partial.chmod(0o777 & ~_umask())
            _publish(partial, place, overwrite=overwrite)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {_reason(error, place)}") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)  # after an exchange, what stood there before


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield an empty, private folder for what is on its way elsewhere; it is removed in any case.

    A kill leaves it behind, as one of :func:`output_folder`: the next run that writes or sends anything removes it.

    Raises:
        OutputError: no folder for temporary files may be written; errors of the block are its own.
    """
    remove_abandoned_temporaries()
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(_private_folder(_temporaries()))
        except OSError as error:
            raise OutputError(
                f"no temporary folder can be made: {error.strerror or error}: set TMPDIR to one that may be written"
            ) from None
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def remove_abandoned_temporaries() -> None:
    """Remove what killed runs left of their temporary folders; those of others, and of runs at work, stay."""
    with suppress(OSError):  # there is no folder for them
        _remove_abandoned(_temporaries())


def _temporaries() -> Path:
    return Path(tempfile.gettempdir()).absolute() / "boomerang"


def _publish(partial: Path, place: Path, *, overwrite: bool) -> None:
    if overwrite and place.is_dir():
        if exchange(partial, place):
            return
        # Without an atomic exchange there is a moment in which neither stands there, but both are on the disk.
        previous = place.with_name(f".{place.name}{_PREVIOUS}")
        shutil.rmtree(previous, ignore_errors=True)
        place.rename(previous)
        partial.rename(place)
        shutil.rmtree(previous, ignore_errors=True)
        return
    try:
        partial.rename(place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise OutputError(f"{place} exists: another command wrote it meanwhile") from None
        raise


@contextmanager
def _private_folder(place: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside ``place``, locked as long as it is written to."""
    while True:
        partial = Path(tempfile.mkdtemp(prefix=f".{place.name}{_PARTIAL}", dir=place.parent))
        try:
            descriptor = os.open(partial, os.O_RDONLY)
        except FileNotFoundError:
            continue  # before it was locked, another run took it for abandoned
        try:
            with suppress(OSError):  # a file system without locks: abandoned folders are then not told apart
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if partial.exists():
                yield partial
                return
        finally:
            os.close(descriptor)


def _recover(place: Path) -> None:
    """Put the old state back after a kill between the two renames that stand in for an atomic exchange."""
    previous = place.with_name(f".{place.name}{_PREVIOUS}")
    with suppress(OSError):
        if previous.is_dir() and not place.exists():
            previous.rename(place)


def _remove_abandoned(place: Path) -> None:
    """Remove what killed runs left: temporary folders that no process holds locked."""
    for partial in place.parent.glob(f".{_escaped(place.name)}{_PARTIAL}*"):
        try:
            descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(descriptor).st_uid != os.geteuid():
                continue  # somebody else's, in a folder for everybody; root could remove it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(partial, ignore_errors=True)
        except OSError:
            pass  # a run is writing there
        finally:
            os.close(descriptor)


def _escaped(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


def _reason(error: OSError, place: Path) -> str:
    if error.errno in NO_ROOM:
        return f"no space left on the disk of {place.parent}"
    return error.strerror or str(error)
