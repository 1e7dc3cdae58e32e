"""``push``: a model folder, or the models of a sweep, to the Hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.checkpoint.files import ask, at_home
from boomerang_cli.engine.checkpoint.hub_address import named_by_address
from boomerang_cli.engine.checkpoint.hub_reading import check_repo_id
from boomerang_cli.engine.checkpoint.readers import is_portable, misreaders
from boomerang_cli.engine.errors import ModelNotFoundError, SelectionError
from boomerang_cli.engine.publishing.publication import Publication, prepare
from boomerang_cli.engine.publishing.sweep_publication import is_sweep, prepare_sweep

if TYPE_CHECKING:
    from boomerang_cli.engine.publishing.upload import Destination


@dataclass(frozen=True)
class PushedFile:
    file: str
    bytes: int


@dataclass(frozen=True, repr=False)
class PushResult(Brief):
    """A model on the Hub; of a dry run, what would be sent.

    Attributes:
        revision: the branch, or the pull request's ``refs/pr/N``.
        commit: that holds the files; None in a dry run.
        bytes: of all files, those that the Hub had already too.
        url: of the model, or of the pull request.
        removed: what of the folder is private, and so is not sent: ``config.json: _name_or_path``.
        changed: False where the Hub held all of it already, so that there is no new commit.
        notes: what others will miss, and what was not sent along.
        portable: whether llama.cpp and MLX LM, too, read it as transformers does, as far as is known.
        misreaders: the programs that do not, by what they suppose of it.
    """

    brief = ("repo", "revision", "commit", "bytes", "url")

    repo: str
    revision: str
    commit: str | None
    files: tuple[PushedFile, ...]
    bytes: int
    url: str
    removed: tuple[str, ...] = ()
    changed: bool = True
    notes: tuple[str, ...] = ()
    portable: bool = True
    misreaders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def models(self) -> tuple[PushResult, ...]:
        """This one, as a sweep's result has several."""
        return (self,)

    @property
    def urls(self) -> tuple[str, ...]:
        return (self.url,)


@dataclass(frozen=True, repr=False)
class SweepPushResult(Brief):
    """A sweep's models on the Hub, the smallest first.

    Attributes:
        collection: its URL; None without one.
    """

    brief = ("urls",)

    models: tuple[PushResult, ...]
    collection: str | None

    @property
    def urls(self) -> tuple[str, ...]:
        """Of the models, and of the collection if there is one."""
        return (*(model.url for model in self.models), *filter(None, [self.collection]))


ModelCallback = Callable[[PushResult], None]
"""Called before each model is sent."""


def push(
    path: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    message: str | None = None,
    collection: bool = False,
    results: str | Path | None = None,
    teacher_id: str | None = None,
    dry_run: bool = False,
    show_progress: bool = False,
    on_model: ModelCallback | None = None,
) -> PushResult | SweepPushResult:
    """Send a model folder to the repository ``repo_id``, or each model of a sweep to ``<repo_id>-<depth>L``.

    Every folder is checked before anything is sent. What else the repository holds stays there.

    Args:
        path (str | Path): a folder that ``patch``, ``distill``, ``init_student`` or ``sweep`` (with ``write``) wrote.
        repo_id (str): ``owner/name`` on the Hub; made if it is new.
        private (bool, default False): make the repository private if it is new; one that is public is refused.
        revision (str, optional): a branch, made if it is new, or ``refs/pr/N``; None is ``main``.
        create_pr (bool, default False): open a pull request instead of writing to ``main``; excludes ``revision``.
        message (str, optional): of the commit; None is ``Upload with boomerang``.
        collection (bool, default False): gather a sweep's models in a collection named like ``repo_id``.
        results (str | Path, optional): the folder of a sweep of a student, whose scores go along, so that ``patch``
            chooses by them on any machine; None is ``./sweep``, if it scored these very files.
        teacher_id (str, optional): the teacher's ``owner/name[@revision]`` on the Hub, for a student whose teacher is a
            folder.
        dry_run (bool, default False): return what would be sent, and send nothing.
        show_progress (bool, default False): let huggingface_hub draw its bars.
        on_model (Callable[[PushResult], None], optional): called before each model is sent, with what is sent of it.

    Returns:
        A ``PushResult``; of a sweep a ``SweepPushResult``, the smallest model first.

    Raises:
        ModelNotFoundError: no such folder, or a name that the Hub would not take.
        CheckpointError, UnsupportedModelError: a folder that is no whole model.
        SelectionError: options that exclude one another, or ``results`` that are not of these files.
        PairError: ``teacher_id`` is the teacher of other students.
        OutputError: there is no room for the files that are made on the way.
        HubError: there is no token, or the Hub refuses or fails.
    """
    from boomerang_cli.engine.evaluation.scored_publication import prepare_model
    from boomerang_cli.engine.publishing.public_teacher import open_public_teacher
    from boomerang_cli.engine.publishing.upload import Destination, check_token, writable_xet_cache

    folder = at_home(path)
    repo_id = named_by_address(repo_id)
    check_repo_id(repo_id)
    if create_pr and revision is not None:
        raise SelectionError(
            "--create-pr and --revision exclude one another: a pull request is opened against main", usage=True
        )
    if not ask(folder.is_dir):
        raise ModelNotFoundError(f"no folder {path}")
    to = Destination(repo_id, private, revision, create_pr, message, show_progress)
    swept = is_sweep(folder)
    if collection and not swept:
        raise SelectionError(f"--collection gathers the models of a sweep, and {path} is none")
    if results is not None and swept:
        raise SelectionError(f"--results belongs to a student, and {path} is itself a sweep: leave it out")
    teacher = open_public_teacher(teacher_id) if teacher_id else None
    models = (
        prepare_sweep(folder, repo_id, teacher)
        if swept
        else {repo_id: prepare_model(folder, repo_id, Path(results) if results else None, teacher)}
    )
    if not dry_run:
        check_token(repo_id)
    with writable_xet_cache():
        pushed = tuple(_push(model, replace(to, repo_id=name), dry_run, on_model) for name, model in models.items())
    if not swept:
        return pushed[0]
    return SweepPushResult(pushed, _gather(pushed, to) if collection and not dry_run else None)


def push_model(folder: Path, to: Destination) -> PushResult:
    """Send one model folder (errors as in :func:`push`)."""
    from boomerang_cli.engine.publishing.upload import writable_xet_cache

    with writable_xet_cache():
        return _push(prepare(folder, to.repo_id), to, dry_run=False, on_model=None)


def _push(model: Publication, to: Destination, dry_run: bool, on_model: ModelCallback | None) -> PushResult:
    from boomerang_cli.engine.publishing.upload import MAIN, send

    files = tuple(PushedFile(name, size) for name, size in model.sizes.items())
    size = sum(file.bytes for file in files)
    planned = PushResult(
        repo=to.repo_id,
        revision=to.revision or MAIN,
        commit=None,
        files=files,
        bytes=size,
        url=to.url,
        removed=model.removed,
        notes=model.notes,
        portable=is_portable(model.config),
        misreaders=misreaders(model.config),
    )
    if dry_run:
        return planned
    if on_model:
        on_model(planned)
    with model.staged() as staging:
        sent = send(staging, to)
    return replace(planned, revision=sent.revision, commit=sent.commit, url=sent.url, changed=sent.changed)


def _gather(pushed: tuple[PushResult, ...], to: Destination) -> str:
    from boomerang_cli.engine.publishing.upload import gather

    owner, _, title = to.repo_id.partition("/")
    return gather([model.repo for model in pushed], title=title, namespace=owner, private=to.private)
