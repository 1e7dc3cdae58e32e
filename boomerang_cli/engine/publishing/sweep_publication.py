"""The models of a sweep made ready for others to read, each for a repository of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.hub_reading import check_repo_id
from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.checkpoint.weights import CONFIG_FILE
from boomerang_cli.engine.errors import CheckpointError, ModelNotFoundError, SelectionError
from boomerang_cli.engine.output.output_marker import RESULTS_FILE
from boomerang_cli.engine.publishing.card import Results
from boomerang_cli.engine.publishing.publication import Publication, prepare


def is_sweep(folder: Path) -> bool:
    """Tell whether a folder holds the results of a sweep, and is not itself a model."""
    return (folder / RESULTS_FILE).is_file() and not (folder / CONFIG_FILE).exists()


def prepare_sweep(folder: Path, repo_id: str, teacher: Checkpoint | None) -> Mapping[str, Publication]:
    """Check all models of a sweep, and return them by repository, the smallest first.

    Where a sweep holds several orders, its folders are called ``<depth>L-<order>``, and so are the repositories.

    Args:
        teacher: see :func:`publication.prepare`.

    Raises:
        CheckpointError: the results are damaged, or a folder is no whole model.
        ModelNotFoundError: there are no models, or names that the Hub would not take.
        SelectionError: two models would go to one repository.
    """
    content = read_json(folder / RESULTS_FILE)
    rows, data = content.get("rows") or [], content.get("data")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CheckpointError(f"{folder / RESULTS_FILE} holds no rows of a sweep: run the sweep again")
    folders = sorted(config.parent for config in folder.glob(f"*/{CONFIG_FILE}"))
    if not folders:
        raise ModelNotFoundError(f"{folder} holds the results of a sweep and no models: run it again with --write")
    found: dict[str, Publication] = {}
    for each in sorted((prepare(one, repo_id) for one in folders), key=lambda model: model.depth):
        size = f"{each.depth}L"
        name = f"{repo_id}-{each.folder.name if each.folder.name.startswith(f'{size}-') else size}"
        check_repo_id(name)
        if name in found:
            raise SelectionError(
                f"{found[name].folder} and {each.folder} both have {each.depth} layers: push them one by one"
            )
        results = Results(rows, [str(text) for text in data] if isinstance(data, list) else ())
        found[name] = prepare(each.folder, name, results, teacher)
    return found
