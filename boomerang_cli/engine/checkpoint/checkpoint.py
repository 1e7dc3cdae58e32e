"""A model, read from its headers: configuration, and where the bytes of each tensor lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.companions import companions
from boomerang_cli.engine.checkpoint.files import File, RemoteFile, SourceFile, files_of, is_stray_link, refuse_pointer
from boomerang_cli.engine.checkpoint.foreign import refuse_adapter
from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.checkpoint.tensors import Tensor, read_header
from boomerang_cli.engine.checkpoint.weights import (
    CONFIG_FILE,
    PICKLES,
    SINGLE_FILE,
    entry_file,
    is_index,
    nothing_found,
    set_aside,
    shard_files,
)
from boomerang_cli.engine.errors import CheckpointError, ModelNotFoundError

BUILTIN_DEMO = "builtin:demo"
"""The small teacher that ships inside the package."""

_LONGEST_POINTER_BYTES = 1024
"""Of what Git LFS leaves in place of a file, by its own specification."""

SetAsideCallback = Callable[[str, str, Collection[str]], None]
"""Called with a model's name, the file that its weights are read from, and those that could be taken for it."""
on_set_aside: SetAsideCallback | None = None
"""Who wants to hear of weights that are not read: every command can meet a folder that holds them twice."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with ``config.json`` and safetensors files.

    Attributes:
        name: the model argument as it should be recorded: a Hub id, or an absolute path.
        folder: holds its JSON files, and its weights too unless it was opened without a download.
        files: all of its files by name, those that are still on the Hub too.
        config: ``config.json`` as it stands, so that it can be written again without loss.
        tensors: by name, as named on disk.
        revision: the Hub commit, if it came from the Hub.
    """

    name: str
    folder: Path
    files: Mapping[str, File]
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    revision: str | None = None

    @property
    def weight_files(self) -> dict[str, File]:
        """The files that hold tensors, by their names."""
        return {tensor.file.name: tensor.file for tensor in self.tensors.values()}

    @cached_property
    def main_dtype(self) -> str:
        """The floating-point dtype that holds most of the bytes."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors.values():
            if tensor.is_float:
                sizes[tensor.dtype] += tensor.size_bytes
        if not sizes:
            raise CheckpointError(f"{self.name} holds no floating-point weights")
        return sizes.most_common(1)[0][0]


def open_checkpoint(model: str | Path, *, download: bool = True) -> Checkpoint:
    """Open a local folder, ``owner/name[@revision]`` on the Hub, or ``builtin:demo``; no tensor data is read.

    Args:
        model: of a model on the Hub also its page's address.
        download: bring a model of the Hub whole into the cache; else weights that are not there stay on the Hub.

    Raises:
        ModelNotFoundError: no such folder or repository.
        CheckpointError: files that are missing, corrupt, or contradict each other.
        HubError: the Hub refuses or fails.
    """
    if str(model) == BUILTIN_DEMO:
        return read_checkpoint(Path(__file__).parents[2] / "demo" / "teacher", name=BUILTIN_DEMO)
    try:
        path = Path(model).expanduser()
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long; the home of nobody
        raise ModelNotFoundError(f"no model at {model}: {getattr(error, 'strerror', None) or error}") from None
    if is_folder:
        return read_checkpoint(path.resolve())
    if is_there:
        raise ModelNotFoundError(f"{model} is a file: give the model's folder")
    from boomerang_cli.engine.checkpoint import hub_reading as hub
    from boomerang_cli.engine.checkpoint.hub_address import named_by_address

    model = named_by_address(str(model))
    if not hub.is_repo_id(model):
        raise ModelNotFoundError(f"no model at {model}: neither a folder nor a Hub id (owner/name[@revision])")
    snapshot = hub.download(model) if download else hub.locate(model)
    return read_checkpoint(snapshot.folder, name=snapshot.repo_id, revision=snapshot.revision, files=snapshot.files)


def read_checkpoint(
    folder: Path, *, name: str | None = None, revision: str | None = None, files: Mapping[str, File] | None = None
) -> Checkpoint:
    """Read the headers of a local folder, or of a repository whose ``files`` are listed (errors as above)."""
    name = name or str(folder)
    try:
        files = files_of(folder) if files is None else files
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from None
    _check_links(files)
    refuse_adapter(files, name, is_model=CONFIG_FILE in files)
    if CONFIG_FILE not in files:
        raise CheckpointError(f"{folder} has no {CONFIG_FILE}")
    config = read_json(folder / CONFIG_FILE)
    entry = entry_file(files, config, name)
    if entry is None:
        raise CheckpointError(f"{name} has no {SINGLE_FILE}{nothing_found(files)}")
    if entry not in files:
        raise CheckpointError(f"{name} has no {entry}, which its config.json names as the weights")
    tensors = _read_sharded(folder / entry, files) if is_index(entry) else _read_header(files[entry])
    for companion in companions(files):
        if isinstance(companion, SourceFile) and companion.size_bytes <= _LONGEST_POINTER_BYTES:
            refuse_pointer(companion, _beginning(companion.path))
    used = {entry, *(tensor.file.name for tensor in tensors.values())}
    if on_set_aside is not None and (others := set_aside(files, used)):
        on_set_aside(name, entry, others)
    return Checkpoint(name=name, folder=folder, files=files, config=config, tensors=tensors, revision=revision)


def _check_links(files: Mapping[str, File]) -> None:
    """Refuse links out of the folder, but for weights, which people keep on other disks and which are only read."""
    for name, file in files.items():
        weights = name.endswith((".safetensors", *PICKLES))
        if isinstance(file, SourceFile) and not weights and is_stray_link(file.path):
            raise CheckpointError(f"{file} is a link to a file outside the model's folder: put a copy in its place")


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            return opened.read(_LONGEST_POINTER_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def _read_header(file: File) -> dict[str, Tensor]:
    if isinstance(file, RemoteFile):
        from boomerang_cli.engine.checkpoint.hub_ranges import read_remote_header

        return read_remote_header(file)
    return read_header(file.path)


def _read_sharded(index: Path, files: Mapping[str, File]) -> dict[str, Tensor]:
    content = read_json(index)
    shards, weight_map = shard_files(content, str(index)), content["weight_map"]
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        if shard not in files:
            raise CheckpointError(f"{index} names {shard}, which is missing")
        for name, tensor in _read_header(files[shard]).items():
            if weight_map.get(name) != shard:
                raise CheckpointError(f"{files[shard]} holds {name}, which {index.name} puts elsewhere")
            tensors[name] = tensor
    if missing := weight_map.keys() - tensors.keys():
        raise CheckpointError(f"{index} names {len(missing)} tensors that no file holds, {min(missing)} first")
    return tensors
