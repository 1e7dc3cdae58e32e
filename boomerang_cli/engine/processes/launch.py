"""One command, many GPUs: the command starts itself in N processes under torch's own launcher."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from boomerang_cli.engine.errors import ProcessError, check_least

_SHUTDOWN_SECONDS = "900"
"""How long the launcher waits, after Ctrl-C, for a step to end and a checkpoint to be written."""


def is_launched() -> bool:
    """Tell whether this process is one of several that ``torchrun`` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first_process() -> bool:
    """Tell whether this process is the one that speaks: rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def without_option(arguments: Sequence[str], option: str) -> list[str]:
    """Return a command line's arguments without ``option`` and its value, in either spelling."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == option:
            next(rest, None)
        elif not argument.startswith(f"{option}="):
            kept.append(argument)
    return kept


def check_gpus(gpus: int) -> None:
    """Refuse a number of GPUs to start processes for.

    Raises:
        ProcessError: the machine has fewer, or this is such a process already.
    """
    check_least(1, ProcessError, gpus=gpus)
    if is_launched():
        raise ProcessError(f"--gpus {gpus} under torchrun: leave one of them out")
    import torch

    if (found := torch.cuda.device_count()) < gpus:
        raise ProcessError(f"--gpus {gpus}, but this machine has {found}")


def launch(arguments: Sequence[str], gpus: int, processes: int | None = None) -> int:
    """Run ``python -m boomerang_cli <arguments>`` on so many GPUs, and return the exit code.

    Args:
        processes: that share the GPUs; None is one for each.

    Raises:
        ProcessError: see :func:`check_gpus`.
    """
    check_gpus(gpus)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible.split(",")[:gpus])  # those of the processes, and no others
    return run_processes(["-m", "boomerang_cli", *arguments], processes or gpus)


def run_processes(command: Sequence[str], processes: int) -> int:
    """Run a Python command in several processes; the exit code is that of the first which failed."""
    import logging

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    # Its own lines about signals and children would come between ours; what a child says stays.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", _SHUTDOWN_SECONDS)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    try:
        arguments = get_args_parser().parse_args(["--standalone", f"--nproc-per-node={processes}", *command])
        run(arguments)  # type: ignore[no-untyped-call]
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        sys.stderr.flush()
        return max(1, error.get_first_failure()[1].exitcode)
    return 0
