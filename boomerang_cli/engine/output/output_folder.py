"""A folder that comes to be at once: written beside its place under a temporary name, and renamed when complete."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.output.output_marker import Kind, why_not_replaced, write_marker
from boomerang_cli.engine.output.system_calls import NO_ROOM, exchange, is_mount_point, sync_name, sync_tree, try_lock

_PARTIAL = ".partial-"
_PREVIOUS = f"{_PARTIAL}previous"


def check_output(target: Path, kind: Kind, *, overwrite: bool, dry_run: bool = False) -> None:
    """Refuse an output that cannot be written, before any work is done.

    A dry run, which shows what would be written, refuses one that exists only with ``overwrite``.

    Raises:
        OutputError: it exists and ``overwrite`` is not given, or holds what no output of its kind does.
    """
    try:
        problem = _shape_problem(target)
        if problem is None and target.exists() and (overwrite or not dry_run):
            problem = _replacement_problem(target, kind, overwrite)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from None
    if problem:
        raise OutputError(f"{target} {problem}")


def _shape_problem(target: Path) -> str | None:
    """Say why there can never be an output at this place, or None."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        return "is there and is no folder: give another --output"
    if target.name == "..":
        return "names no folder of its own: give another --output"
    return None


def _replacement_problem(target: Path, kind: Kind, overwrite: bool) -> str | None:
    if kind != "sweep" and is_mount_point(target):  # a sweep is written in place
        return f"is a mount point, which no new folder can replace: give a folder in it, --output {target / kind}"
    if not overwrite:
        return "exists: give another --output, or --overwrite"
    if target.resolve() == Path.cwd() or target.resolve() in Path.cwd().parents:
        return "holds the current folder: it cannot be overwritten from here"
    return why_not_replaced(target, kind)


def check_writable(target: Path) -> None:
    """Refuse a place that may not be written to, before hours of work are done for it.

    Raises:
        OutputError: the disk is read-only, or the folder is somebody else's.
    """
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise OutputError(f"{target} cannot be written: {parent} is no folder")
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
def output_folder(target: Path, kind: Kind, *, overwrite: bool = False, durable: bool = False) -> Iterator[Path]:
    """Yield an empty folder to write to, and put it in ``target``'s place once the block ends without an error.

    The folder is private until then, and removed on an error. A kill leaves it behind under a name that tells what it
    is; the next run for the same target removes it. What is replaced goes once the new folder cannot be lost any more.

    Args:
        durable: wait until it is on the disk, as is always done before another folder is replaced.

    Raises:
        OutputError: as in :func:`check_output`, or the disk is full or may not be written.
    """
    place = target.absolute()
    _recover(place)
    check_output(target, kind, overwrite=overwrite)
    partial: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(place)
        remove_abandoned_temporaries()
        with _private_folder(place) as partial:
            yield partial
            write_marker(partial, kind)
            partial.chmod(0o777 & ~_umask())
            replaces = overwrite and place.exists()
            if durable or replaces:
                sync_tree(partial)
            if replaces:
                check_output(target, kind, overwrite=True)  # hours may have passed since it was looked at
            _publish(partial, place, replaces=replaces)
            if durable or replaces:
                sync_name(place)
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


def _publish(partial: Path, place: Path, *, replaces: bool) -> None:
    if not replaces:
        return _rename(partial, place)
    if exchange(partial, place):
        return None
    # Without an atomic exchange there is a moment in which neither stands there, but both are on the disk.
    previous = place.with_name(f".{place.name}{_PREVIOUS}")
    shutil.rmtree(previous, ignore_errors=True)
    place.rename(previous)
    try:
        _rename(partial, place)
    except BaseException:
        _recover(place)
        raise
    previous.rename(partial)
    return None


def _rename(partial: Path, place: Path) -> None:
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
            # Where there are no locks, abandoned folders are not told apart, and stay.
            if try_lock(descriptor) is not False and partial.exists():
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
    for partial in place.parent.glob(f".{glob.escape(place.name)}{_PARTIAL}*"):
        try:
            descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            is_ours = os.fstat(descriptor).st_uid == os.geteuid()  # root could remove what is somebody else's
            if is_ours and try_lock(descriptor):
                shutil.rmtree(partial, ignore_errors=True)
        finally:
            os.close(descriptor)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


def _reason(error: OSError, place: Path) -> str:
    if error.errno in NO_ROOM:
        return f"no space left on the disk of {place.parent}"
    return error.strerror or str(error)
