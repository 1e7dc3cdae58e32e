"""Whether a model's files are those that were looked at before."""

from __future__ import annotations

import hashlib
import json

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.files import SourceFile


def fingerprint(checkpoint: Checkpoint) -> str:
    """Return a name for a model's files as they are: another when a file was written again."""
    tensors = sorted((t.name, t.dtype, t.shape, t.file.name, t.start, t.stop) for t in checkpoint.tensors.values())
    files = sorted(
        {
            (file.name, file.size_bytes, file.modified_ns)
            for file in checkpoint.weight_files.values()
            if isinstance(file, SourceFile) and checkpoint.revision is None
        }
    )
    content = json.dumps([checkpoint.config, tensors, files, checkpoint.revision], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
