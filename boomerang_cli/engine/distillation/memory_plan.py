"""How much memory a training takes of each GPU, by part: arithmetic on sizes that are known beforehand."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial

from boomerang_cli.engine.distillation.cost import ModelSize
from boomerang_cli.engine.distillation.phase import Phase

USABLE_SHARE = 0.9
"""Of the memory; the rest is for fragments, kernels' workspaces and what the device's driver holds."""
_MOST_GPUS = 4096


@dataclass(frozen=True)
class StepMemory:
    """What one process holds beside weights, gradients and optimiser while a step runs, before anything is split.

    Attributes:
        fixed_bytes: for any number of sequences: a chunk of logits, the head's gradient, weights cast for autocast.
        logits_chunk_bytes: of these, what is held while a chunk of logits is worked on.
        sequence_bytes: for each sequence: what autograd keeps, and the states that the cosine loss compares.
        is_estimate: whether the step could not be run to count it.
    """

    fixed_bytes: int
    logits_chunk_bytes: int
    sequence_bytes: int
    is_estimate: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU at the moment of a step at which they are most, by part.

    Attributes:
        weights, gradients, optimizer: the student's share of this process, float32.
        teacher: its share.
        gathered: what is whole at that moment where models are split: embeddings, norms and heads of both, layers.
        activations: of all sequences that run at once.
        logits_chunk: cross entropy and KL of a chunk of tokens.
        working: what else stands whatever the number of sequences.
    """

    weights: int
    gradients: int
    optimizer: int
    teacher: int
    gathered: int
    activations: int = 0
    logits_chunk: int = 0
    working: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True)
class MemoryPlan:
    """A pair that is trained on some number of processes.

    Attributes:
        teacher_bytes: a parameter of the teacher.
        optimizer_bytes: what the optimiser keeps of a trained parameter.
        offload: whether the student's share stays in host memory.
        at_most: processes that it can be trained on.
    """

    student: ModelSize
    teacher: ModelSize
    teacher_bytes: int
    optimizer_bytes: float
    offload: bool = False
    at_most: int | None = None

    def memory(self, step: StepMemory, processes: int, sequences: int) -> Memory:
        """Return what each process holds at most while ``sequences`` run at once.

        From the second micro-batch on the gradients of the first stand there too, and from the second step on the
        optimiser's moments. Where models are split, a step has three heights: their roots arrive, the vocabulary loss
        is taken, or its gradient goes back through the last layer.
        """
        share = -(-self.student.parameters // processes)
        on_device = 0 if self.offload else share
        arriving, forward, backward = self._gathered(processes)
        at_rest = Memory(
            weights=4 * on_device,
            gradients=4 * on_device,
            optimizer=round(self.optimizer_bytes * on_device),
            teacher=self.teacher_bytes * -(-self.teacher.parameters // processes),
            gathered=arriving,
        )
        going_back = replace(
            at_rest,
            gathered=backward,
            activations=step.sequence_bytes * sequences,
            working=step.fixed_bytes - step.logits_chunk_bytes,
        )
        at_loss = replace(going_back, gathered=forward, logits_chunk=step.logits_chunk_bytes)
        return max(at_rest, at_loss, going_back, key=lambda memory: memory.total)

    def host_bytes(self, processes: int) -> int:
        """Return what each process holds of the student in host memory: with moments in float32 for the CPU."""
        return 16 * -(-self.student.parameters // processes) if self.offload else 0

    def _gathered(self, processes: int) -> tuple[int, int, int]:
        """Return what FSDP2 has made whole as the roots arrive, at the loss, and behind the last layer's gradient.

        A root is whole from its first use to the end of a step. What arrives is one buffer, which is copied, and let
        go when the model's next unit has arrived: so at first both roots stand there twice, and later the last layer
        of the teacher. In the backward pass there are a layer, its gradients, and the buffer of the layer before it.
        """
        if processes == 1 and not self.offload:
            return 0, 0, 0
        roots = 4 * self.student.root + self.teacher_bytes * self.teacher.root
        theirs = self.teacher_bytes * max(self.teacher.layers)
        layer = max(4 * max(self.student.layers), theirs)  # a patched student has the teacher's
        return 2 * roots, roots + theirs + layer, roots + theirs + 3 * layer

    def micro_batch_size(
        self,
        phase: Phase,
        step: StepMemory,
        processes: int,
        memory_bytes: int,
        at_most: int | None = None,
        at_least: int = 1,
    ) -> int:
        """Return the largest number of sequences that fits and divides a process's share of the batch; 0 if none."""
        if phase.batch_size % processes:
            return 0
        share = phase.batch_size // processes
        sizes = [size for size in range(min(share, at_most or share), at_least - 1, -1) if share % size == 0]
        usable = memory_bytes * USABLE_SHARE
        return next((size for size in sizes if self.memory(step, processes, size).total <= usable), 0)

    def first_fit(self, phase: Phase, step: StepMemory, memory_bytes: int, size: int = 1) -> int | None:
        """Return the smallest number of processes on which so many sequences fit; None if there is none."""
        numbers = range(2 if self.offload else 1, min(phase.batch_size, self.at_most or _MOST_GPUS) + 1)
        fits = partial(self.micro_batch_size, phase, step, memory_bytes=memory_bytes, at_most=size, at_least=size)
        return next((each for each in numbers if fits(each)), None)
