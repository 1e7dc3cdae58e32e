"""A model made ready with the scores of its sizes, so that others choose one without a sweep of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.content_digest import joined, sha256_of, weights_digest
from boomerang_cli.engine.checkpoint.files import ask
from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.errors import BoomerangError, SelectionError
from boomerang_cli.engine.evaluation.known_scores import SWEEP, known_scores
from boomerang_cli.engine.evaluation.published_sweep import published, row_contents
from boomerang_cli.engine.evaluation.swept import Swept, digests_of
from boomerang_cli.engine.output.output_marker import RESULTS_FILE
from boomerang_cli.engine.output.plan import as_json_text
from boomerang_cli.engine.pair.pair import Pair, open_pair
from boomerang_cli.engine.pair.student_config import SCORES_FILE, STUDENT_CONFIG_FILE, is_student
from boomerang_cli.engine.publishing.card import NO_RESULTS, Results
from boomerang_cli.engine.publishing.privacy import public
from boomerang_cli.engine.publishing.provenance import PROVENANCE_FILE
from boomerang_cli.engine.publishing.publication import Publication, prepare
from boomerang_cli.engine.waiting import waiting


def prepare_model(folder: Path, repo_id: str, results: Path | None, teacher: Checkpoint | None) -> Publication:
    """Check a model folder, and decide what of it is sent; with a sweep of these very files, its scores too.

    Args:
        results: the folder of a sweep; None is ``./sweep``, else what the model was published with before.
        teacher: on the Hub, in place of the one that the folder records.

    Raises:
        CheckpointError, UnsupportedModelError: it is no whole model.
        PairError: the teacher is that of another student.
        SelectionError: ``results`` is no sweep of these files.
    """
    notes: list[str] = []
    pair = _open_pair(folder, results, teacher, notes)
    if pair and teacher:
        notes += _compared(pair, teacher)
    swept = _scores(pair, folder, results, notes) if pair else None
    if pair is None or swept is None:
        publication = prepare(folder, repo_id, NO_RESULTS, teacher)
    else:
        card = Results(row_contents(swept), swept.data, own_blocks=())
        publication = _with_scores(prepare(folder, repo_id, card, teacher), pair, swept)
    return replace(publication, notes=(*publication.notes, *notes))


def _open_pair(folder: Path, results: Path | None, teacher: Checkpoint | None, notes: list[str]) -> Pair | None:
    """Open the pair where something has to be known of it: scores, or a teacher's place on the Hub."""
    there = results or ask((SWEEP / RESULTS_FILE).is_file) or ask((folder / SCORES_FILE).is_file)
    if not is_student(folder):
        if results or teacher:
            raise SelectionError(f"{folder} has no {STUDENT_CONFIG_FILE}: leave --results and --teacher-id out")
        return None
    if not there and teacher is None:
        return None
    try:
        return open_pair(folder, download=False)
    except BoomerangError as error:
        if results:
            raise
        if teacher:  # that of this disk may be gone
            return open_pair(folder, f"{teacher.name}@{teacher.revision}", download=False)
        notes.append(f"scores are not sent along: {error}")
        return None


def _compared(pair: Pair, teacher: Checkpoint) -> list[str]:
    """Say where the teacher on the Hub is not the one of this disk."""
    if weights_digest(pair.teacher) == weights_digest(teacher):
        return []
    return [
        f"warning: {teacher.name} has other weights than {pair.teacher.name}: what others make from it may not be what "
        "you make"
    ]


def _scores(pair: Pair, folder: Path, results: Path | None, notes: list[str]) -> Swept | None:
    """Return the scores of these very files.

    Raises:
        SelectionError: ``results`` holds none, or those of other files.
    """
    found: list[str] = []
    swept = known_scores(pair, None, results, found.append)
    if swept and results and (other := swept.other_files(pair)):
        raise SelectionError(f"--results {results} scored other files of the {other}: sweep these, or leave it out")
    is_patched = ask((folder / PROVENANCE_FILE).is_file) and "k" in read_json(folder / PROVENANCE_FILE)
    if not is_patched:  # a sweep is of the student that this one was patched from
        notes += found
    return swept


def _with_scores(publication: Publication, pair: Pair, swept: Swept) -> Publication:
    with waiting(f"reading all weights of {publication.folder}, for their SHA-256"):
        sent = joined(_sent_digest(publication, name) for name in pair.student.weight_files)
    digests = digests_of(pair, sent)
    content = public(published(swept, pair.layer_map, digests))
    files = {name: path for name, path in publication.files.items() if name != SCORES_FILE}
    return replace(publication, files=files, texts={**publication.texts, SCORES_FILE: as_json_text(content)})


def _sent_digest(publication: Publication, name: str) -> str:
    """Return the SHA-256 of a file of weights as it is sent: nothing private is in its header."""
    header = publication.headers.get(name)
    return sha256_of(publication.files[name], header.text if header else b"", header.length if header else 0)
