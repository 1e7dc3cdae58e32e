"""What a model folder will be: which tensor comes from where, in which file, beside which configuration.

Made from headers alone, so that it can be shown, compared and refused before a byte is written.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.companions import companions
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.files import File, RemoteFile, as_utf8
from boomerang_cli.engine.checkpoint.layer_config import config_for_layers
from boomerang_cli.engine.checkpoint.parts import Parts, around_layers, lacking_prefix
from boomerang_cli.engine.checkpoint.readers import is_portable, misreaders
from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.checkpoint.weights import CONFIG_FILE, INDEX_FILE
from boomerang_cli.engine.output.shards import Copy, Shard, lay_out
from boomerang_cli.engine.output.written_config import written_config
from boomerang_cli.engine.pair.layers import LayerSource, Owner
from boomerang_cli.engine.pair.student_config import STUDENT_CONFIG_FILE, StudentConfig

OWNERS: tuple[Owner, ...] = ("student", "teacher")


@dataclass(frozen=True)
class Plan:
    """A model folder.

    Attributes:
        config: the content of ``config.json``.
        companions: files that are copied as they are: tokenizer, generation config, chat template, licence.
        documents: the content of generated files beside ``config.json`` and the index.
        sources: where each layer comes from.
        multimodal: whether its text model stands within one that reads images too.
        presumed: pairs of tensors on the Hub that are taken to be equal, as samples of them were; they are compared
            whole before the plan is carried out.
        prefix: of the names of the body's tensors, what the teacher's files leave out.
    """

    shards: tuple[Shard, ...]
    config: Mapping[str, Any]
    companions: tuple[File, ...]
    sources: tuple[LayerSource, ...]
    documents: Mapping[str, str] = field(default_factory=dict)
    multimodal: bool = False
    presumed: tuple[tuple[Tensor, Tensor], ...] = ()
    prefix: str = ""

    @cached_property
    def copies(self) -> tuple[Copy, ...]:
        return tuple(chain.from_iterable(shard.copies for shard in self.shards))

    @property
    def parameters(self) -> int:
        return sum(copy.source.parameters for copy in self.copies)

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors, as in the index's ``total_size``."""
        return sum(shard.size_bytes for shard in self.shards)

    @property
    def fetch_bytes(self) -> Mapping[str, int]:
        """Bytes that are read from the Hub to carry the plan out, by repository; headers were read to make it."""
        sizes: Counter[str] = Counter()
        for file, size in chain(
            ((tensor.file, tensor.size_bytes) for copy in self.copies for tensor in copy.inputs),
            ((companion, companion.size_bytes) for companion in self.companions),
            ((tensor.file, tensor.size_bytes) for tensor in chain.from_iterable(self.presumed)),
        ):
            if isinstance(file, RemoteFile):
                sizes[file.repo_id] += size
        return dict(sizes)

    @property
    def generated(self) -> tuple[str, ...]:
        """Names of the files that are made, beside weights and companions."""
        index = (INDEX_FILE,) if len(self.shards) > 1 else ()
        return (*index, CONFIG_FILE, *self.documents)

    @property
    def tied(self) -> bool:
        return bool(self.config["tie_word_embeddings"])

    @property
    def dtype(self) -> str:
        """That of most bytes, as ``config.json`` names it."""
        return str(self.config.get("torch_dtype") or self.config["dtype"])

    @property
    def misreaders(self) -> Mapping[str, tuple[str, ...]]:
        """Programs that suppose of the model what is not so, by what that is."""
        return misreaders(self.config)

    @property
    def portable(self) -> bool:
        return is_portable(self.config)

    def in_own_names(self) -> Plan:
        """Return the same plan with the names of the teacher's files where these hold the body alone, as GPT-2's.

        A head of its own stands outside the body, and transformers 4 takes both only by their full names.
        """
        if not self.prefix or not all(copy.name.startswith(self.prefix) for copy in self.copies):
            return self
        return self._with_copies(lambda copy: replace(copy, name=copy.name.removeprefix(self.prefix)))

    def _with_copies(self, changed: Callable[[Copy], Copy]) -> Plan:
        shards = tuple(replace(shard, copies=tuple(map(changed, shard.copies))) for shard in self.shards)
        return replace(self, shards=shards)

    def with_documents(self, documents: Mapping[str, str]) -> Plan:
        return replace(self, documents={**self.documents, **documents})

    def with_student_config(self, recorded: StudentConfig) -> Plan:
        """Return the same plan with what the model records of itself: in a file of its own, and in ``config.json``."""
        plan = self.with_documents({STUDENT_CONFIG_FILE: as_json_text(recorded.as_json())})
        return replace(plan, config={**plan.config, **recorded.in_config()})

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Plan:
        """Return the same plan with other weights: each tensor is taken from ``tensors``, by its name in the output."""
        return replace(self._with_copies(lambda copy: replace(copy, source=tensors[copy.name])), presumed=())


def plan_model(
    sources: Sequence[LayerSource],
    *,
    teacher: Checkpoint,
    family: Family,
    parts: Mapping[Owner, Parts],
    dtype: str | None,
    max_shard_bytes: int,
    ends: tuple[Owner, Owner],
) -> Plan:
    """Plan the model that has these layers (rules 3 and 4 of SPEC.md for what stands around them).

    Args:
        parts: of each owner that ``sources`` names.
        dtype: the safetensors name of what floating-point tensors become; None leaves each as it is.
        ends: whose are what stands before the layers and what follows them.
    """
    front, behind = ends
    before, after, tied = around_layers(parts[front], parts[behind], family)
    tensors: dict[str, tuple[Owner, Tensor]] = {name: (front, own) for name, own in before.items()}
    for index, source in enumerate(sources):
        own_layer = parts[source.owner].layers[source.index].items()
        tensors |= {f"{family.layers}{index}.{name}": (source.owner, tensor) for name, tensor in own_layer}
    tensors |= {name: (behind, tensor) for name, tensor in after.items()}
    copies = [
        Copy(name, owner, tensor, output_dtype(name, tensor, dtype, family))
        for name, (owner, tensor) in tensors.items()
    ]
    sizes = Counter[str]()
    for copy in copies:
        sizes[copy.dtype] += copy.size_bytes
    config = config_for_layers(teacher.config, family, [source.teacher_layer for source in sources], teacher.name)
    return Plan(
        shards=lay_out(copies, max_shard_bytes),
        config=written_config(config, family, tied=tied, sizes=sizes, converts=any(copy.converts for copy in copies)),
        companions=companions(teacher.files),
        sources=tuple(sources),
        multimodal=family.wrapper is not None,
        presumed=tuple(pair for pair in (parts[behind].presumed,) if pair),
        prefix="" if family.wrapper else lacking_prefix(teacher.tensors, family.base),
    )


def output_dtype(name: str, tensor: Tensor, dtype: str | None, family: Family) -> str:
    """Return the dtype that a tensor has in a model of ``dtype`` (see :func:`plan_model`)."""
    if dtype is None or not tensor.is_float:
        return tensor.dtype
    stays = family.float32 + (family.float32_in_float16 if dtype == "F16" else ())
    return tensor.dtype if any(part in name for part in stays) else dtype


def as_json_text(content: Any) -> str:
    """Return JSON as the field's tools write it, two spaces deep."""
    return as_utf8(json.dumps(content, indent=2, ensure_ascii=False)) + "\n"


def index_of(plan: Plan) -> dict[str, Any]:
    """Return the content of the index of a model in several files."""
    files = {copy.name: shard.file for shard in plan.shards for copy in shard.copies}
    return {"metadata": {"total_size": plan.size_bytes}, "weight_map": dict(sorted(files.items()))}
