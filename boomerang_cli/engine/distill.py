"""``distill``: train a student towards its teacher, and write it as a student folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from boomerang_cli.engine.distillation.arguments import check_reporter
from boomerang_cli.engine.distillation.dry_run import plan_training
from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.options import check_options
from boomerang_cli.engine.distillation.progress import ProgressCallback
from boomerang_cli.engine.distillation.project import open_project
from boomerang_cli.engine.distillation.recipe import Alignment, Sampling, Schedule
from boomerang_cli.engine.distillation.recipes import recipe_of
from boomerang_cli.engine.distillation.result import DistillResult
from boomerang_cli.engine.distillation.train import train
from boomerang_cli.engine.errors import ProcessError
from boomerang_cli.engine.output.output_folder import check_output


def distill(
    student_init: str | Path = "student-init",
    *,
    output: str | Path | None = None,
    teacher: str | Path | None = None,
    keep: Sequence[int] | None = None,
    recipe: str = "paper",
    data: Sequence[str] | None = None,
    text_column: str | None = None,
    eval_data: Sequence[str] = (),
    steps: int | None = None,
    batch_size: int | None = None,
    sequence_length: int | None = None,
    sft_data: Sequence[str] | None = None,
    sft_columns: Sequence[str] | None = None,
    sft_steps: int | None = None,
    sft_batch_size: int | None = None,
    sft_sequence_length: int | None = None,
    sft_kl: bool | None = None,
    learning_rate: float | None = None,
    warmup_ratio: float | None = None,
    weight_decay: float | None = None,
    max_grad_norm: float | None = None,
    kl_weight: float | None = None,
    cosine_weight: float | None = None,
    temperature: float | None = None,
    cross_entropy: bool | None = None,
    kl: bool | None = None,
    cosine: bool | None = None,
    alignment: Alignment | None = None,
    patched_share: float | None = None,
    patched_schedule: Schedule | None = None,
    patched_sampling: Sampling | None = None,
    seed: int | None = None,
    repeat: bool | None = None,
    micro_batch_size: int | Literal["auto"] = "auto",
    gradient_checkpointing: bool = False,
    optimizer: str = "adamw",
    offload: bool = False,
    attention: str | None = None,
    compile: bool = False,
    save_every: int | None = None,
    eval_every: int | None = None,
    resume: bool = False,
    report_to: str = "none",
    dtype: str = "auto",
    yes: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    gpus: int | None = None,
    gpu_memory: str | None = None,
    tokens_per_second: float | None = None,
    measure: bool = False,
    on_progress: ProgressCallback | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> DistillResult:
    """Distil ``student_init`` from its teacher, and write the student to ``output``.

    Loss a token: cross entropy + ``kl_weight`` * ``temperature``^2 * KL(teacher || student) + ``cosine_weight`` * the
    mean of 1 - cos over aligned hidden states (arXiv 2510.05064). The recipe ``paper`` is the published students',
    ``adapt`` that for post-trained teachers (arXiv 2608.22854): ``steps`` on text, then ``sft_steps`` on conversations
    of which the responses alone count, with one warm-up and one schedule over both; ``between`` trains for the sizes
    between student and teacher too. A value that is None is the recipe's.

    Checkpoints stand in ``<output>.training`` until the student is written. In a process that torchrun started, this
    is one part of the same training; rank 0 alone writes. A script for torchrun must call this under ``if __name__ ==
    "__main__":``, because the process that reads the text imports it. One text may stand without a list.

    Args:
        student_init (str | Path, default "student-init"): a folder, or ``owner/name[@revision]`` on the Hub, that
            ``init_student`` wrote; or a patched model, which a few steps heal, or any student, to be trained further.
        output (str | Path, optional): the folder to write; None is ``student``; of a ``student_init`` that was
            trained or patched before its own name and ``-trained``.
        teacher (str | Path, optional): a folder, or ``owner/name[@revision]`` on the Hub. None is BOOMERANG_TEACHER,
            else what the student records, else that of a published student.
        keep (Sequence[int], optional): the teacher layers that the student copied, ascending from 0; for a student
            that does not record them.
        recipe (str, default "paper"): what stands behind each value below that is None: ``paper``, or ``adapt`` or
            ``between``, which differ from it where they are named there.
        data (Sequence[str], optional): text to train on: Hub datasets ``owner/name[:config[:split]][@revision]``,
            ``.txt``, ``.jsonl``, ``.json``, ``.csv`` or ``.parquet`` files, also compressed, or folders of them. None
            is ``EleutherAI/the_pile_deduplicated``.
        text_column (str, optional): of rows, the one that holds the text. None is ``text``.
        eval_data (Sequence[str], default ()): text for the held-out perplexity, named like ``data``; empty holds out
            the first documents of a Hub dataset, and evaluates nothing on local text.
        steps (int, optional): of the optimiser, AdamW, on text; may be 0 with ``sft_steps``. None is 500; adapt 240.
        batch_size (int, optional): sequences in a step, over all processes. None is 2048.
        sequence_length (int, optional): tokens in a sequence, 2 at least and at most the teacher's positions. None is
            2048; adapt 1024; or fewer, where the teacher has fewer.
        sft_data (Sequence[str], optional): conversations, named like ``data`` but for ``.txt``: rows of ``messages``
            (``conversations``), or of ``prompt`` and ``completion``, ``input`` and ``output``, or ``question`` and
            ``answer``, each text or messages. The teacher's chat template writes them, one a sequence. None is without;
            adapt ``nvidia/Llama-Nemotron-Post-Training-Dataset:SFT:math``.
        sft_columns (Sequence[str], optional): the columns of prompt and response, or the one of messages. None looks
            for the names above.
        sft_steps (int, optional): of the optimiser, on conversations, after those on text. None is 0; adapt 293.
        sft_batch_size (int, optional): conversations in a step, over all processes. None is ``batch_size``; adapt 4096.
        sft_sequence_length (int, optional): tokens of a conversation; longer ones are cut. None is ``sequence_length``;
            adapt 1024.
        sft_kl (bool, optional): whether the KL divergence belongs to the loss of conversations. None is True.
        learning_rate (float, optional): at its peak. None is 3e-4.
        warmup_ratio (float, optional): the share of the steps over which it rises, from 0 to below 1; then it falls as
            a cosine. None is 0.01.
        weight_decay (float, optional): AdamW's. None is 0.1.
        max_grad_norm (float, optional): gradients are clipped to this norm. None is 1.0.
        kl_weight (float, optional): of the KL divergence to the teacher in the loss; 0 or more. None is 0.1.
        cosine_weight (float, optional): of the distance of aligned hidden states in the loss, all of them together; 0
            or more. None is 2.0; adapt 10.0, between 50.0.
        temperature (float, optional): of both models' logits in the KL divergence; above 0. None is 1.0.
        cross_entropy, kl, cosine (bool, optional): whether the part belongs to the loss; at least one does. None is
            True.
        alignment ("cosine" | "relative", optional): what is compared of aligned states: ``cosine`` is their direction;
            ``relative`` is length too, the squared error over the squared length of the teacher's, in the place of 1 -
            cos. None is ``cosine``; between ``relative``.
        patched_share (float, optional): of the steps, those that train the student as a part of a model in between:
            some blocks are the teacher's there, frozen; 0 to 1. None is 0; between 0.5.
        patched_schedule ("constant" | "rising" | "falling", optional): of that share: ``constant``, ``rising`` from 0,
            or ``falling`` to 0. None is ``constant``; between ``falling``.
        patched_sampling ("order" | "random" | "mixed", optional): of those blocks: the first ones of the pair's
            ``order``, ``random`` ones, or ``mixed``. None is ``mixed``.
        seed (int, optional): of the order of the text, and of the steps and blocks that are drawn for
            ``patched_share``. None is 0.
        repeat (bool, optional): read a text that is too short again. None is False: it is refused.
        micro_batch_size (int | Literal["auto"], default "auto"): sequences that run at once in each process, a divisor
            of its share of the batch; ``auto`` measures how many fit. But for rounding, the result does not depend on
            it.
        gradient_checkpointing (bool, default False): keep of each layer its input alone, and run it again in the
            backward pass: less memory, more time.
        optimizer (str, default "adamw"): ``adamw``, or ``adamw-8bit``, whose moments take a quarter of the memory
            (extra ``low-memory``; one process).
        offload (bool, default False): keep the student's weights, gradients and moments in host memory (several GPUs).
        attention (str, optional): transformers' name of the attention of both models: ``eager``, ``sdpa``,
            ``flex_attention``, ``flash_attention_2`` or ``flash_attention_3``. None is its own choice.
        compile (bool, default False): compile each layer of both models: faster after a slow start.
        save_every (int, optional): steps between checkpoints; None is every ten minutes.
        eval_every (int, optional): steps between evaluations; the last step always has one, and a resumed training may
            have another number. None is ten times on the way.
        resume (bool, default False): go on from the newest checkpoint, with the same recipe.
        report_to (str, default "none"): a tracker that gets the losses too: ``none``, ``tensorboard``, ``wandb`` or
            ``trackio``.
        dtype (str, default "auto"): of the written student: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is that
            of ``student_init``.
        yes (bool, default False): train even if that takes longer than half an hour on a CPU.
        overwrite (bool, default False): replace an earlier output of this function, and a training that was begun.
        dry_run (bool, default False): return a ``DistillPlan``: files, operations, memory and hours; nothing is trained
            or written. Text on this disk is looked at: whether it is enough, and the first rows of ``sft_data``.
        gpus (int, optional): with ``dry_run``, how many GPUs to plan for. None is this machine's.
        gpu_memory (str, optional): with ``dry_run``, the memory of each, such as ``80GB``. None is that of this
            machine's.
        tokens_per_second (float, optional): with ``dry_run``, the speed of all GPUs together, for the hours.
        measure (bool, default False): with ``dry_run``, measure that on this machine, for 20 seconds, as if ``gpus``
            were so many times as fast.
        on_progress (Callable[[TrainingProgress], None], optional): called at rank 0 before the first step, and after
            each.
        on_note (Callable[[str], None], optional): called with what is not as might be expected, such as files that are
            left out of a folder.

    Returns:
        A ``DistillResult``: ``path steps tokens losses eval seconds`` and more; with ``dry_run`` a ``DistillPlan``,
        which has ``needs`` too.

    Raises:
        ModelNotFoundError: a student or teacher that is not there; says which parameter to give.
        CheckpointError, UnsupportedModelError: model files that are damaged, or of an unknown family.
        PairError: a student and a teacher that do not belong together.
        SelectionError: an unknown dtype.
        TrainingError: a recipe that cannot be trained, or takes too long, a checkpoint that cannot be used, a loss that
            is no number.
        ProcessError: GPUs to plan for that are not there, of an unknown size, or without a plan; or one of several
            processes was lost.
        DataError: text or conversations that are missing, unreadable or too little; no chat template, or one that
            fails.
        OutputError: the output, or a training that was begun, is there already.
        HubError: the Hub refuses, fails, or is out of reach.
        TrainingInterrupted: Ctrl-C, after the step was finished and saved.
    """
    chosen = recipe_of(
        recipe,
        data=data,
        text_column=text_column,
        eval_data=eval_data,
        steps=steps,
        batch_size=batch_size,
        sequence_length=sequence_length,
        sft_data=sft_data,
        sft_columns=sft_columns,
        sft_steps=sft_steps,
        sft_batch_size=sft_batch_size,
        sft_sequence_length=sft_sequence_length,
        sft_kl=sft_kl,
        learning_rate=learning_rate,
        warmup_ratio=warmup_ratio,
        weight_decay=weight_decay,
        max_grad_norm=max_grad_norm,
        kl_weight=kl_weight,
        cosine_weight=cosine_weight,
        temperature=temperature,
        cross_entropy=cross_entropy,
        kl=kl,
        cosine=cosine,
        alignment=alignment,
        patched_share=patched_share,
        patched_schedule=patched_schedule,
        patched_sampling=patched_sampling,
        seed=seed,
        repeat=repeat,
    )
    check_options(
        save_every=save_every,
        eval_every=eval_every,
        micro_batch_size=micro_batch_size,
        dry_run=dry_run,
        gpus=gpus,
        gpu_memory=gpu_memory,
        tokens_per_second=tokens_per_second,
        measure=measure,
    )
    if gpus is not None and not dry_run:
        raise ProcessError(f"gpus {gpus} is for a plan, with dry_run: start the same with torchrun on so many")
    levers = Levers(gradient_checkpointing, optimizer, offload, attention, compile)
    if output is not None:  # else it depends on what is trained
        check_output(Path(output), "student", overwrite=overwrite, dry_run=dry_run)
    check_reporter(report_to)
    lengths = {"sequence_length": sequence_length, "sft_sequence_length": sft_sequence_length}
    project = open_project(
        student_init,
        teacher=teacher,
        keep=keep,
        recipe=chosen,
        fixed={key for key, value in lengths.items() if value is not None},
        levers=levers,
        target=None if output is None else Path(output),
        dtype=dtype,
        download=measure or not dry_run,
        on_note=on_note,
    )
    if output is None:
        check_output(project.target, "student", overwrite=overwrite, dry_run=dry_run)
    if overwrite and not resume:
        project.folder.check_replaceable()
    if dry_run:
        return plan_training(
            project,
            with_conversations=bool(sft_data),
            micro_batch_size=micro_batch_size,
            gpus=gpus,
            gpu_memory=gpu_memory,
            tokens_per_second=tokens_per_second,
            measure=measure,
        )
    return train(
        project,
        micro_batch_size=micro_batch_size,
        save_every=save_every,
        eval_every=eval_every,
        resume=resume,
        report_to=report_to,
        yes=yes,
        overwrite=overwrite,
        on_progress=on_progress,
        on_note=on_note,
    )
