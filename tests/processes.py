"""Processes: new ones as a shell starts them, and copies of this one, which has imported what takes seconds."""

from __future__ import annotations

import gc
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MODULE = ("-m", "boomerang_cli")


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start Python with these arguments."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


class Fork(multiprocessing.get_context("fork").Process):  # type: ignore[misc]
    """A function in a copy of this process, with streams of its own; it is used as what ``start`` gives."""

    def __init__(self, function: Callable[..., object], *arguments: object, **environment: str) -> None:
        super().__init__(target=function, args=arguments)
        self.environment = {"OMP_NUM_THREADS": "1", **environment}
        (output, self._output), (errors, self._errors) = os.pipe(), os.pipe()
        self.stdout, self.stderr = os.fdopen(output), os.fdopen(errors)
        self.start()
        os.close(self._output)
        os.close(self._errors)

    def run(self) -> None:
        gc.freeze()  # looking for garbage would copy all that the two share
        os.environ.update(self.environment)
        for end, number in ((self._output, 1), (self._errors, 2)):
            os.dup2(end, number)
            os.close(end)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
        super().run()

    @property
    def returncode(self) -> int | None:
        return self.exitcode

    def poll(self) -> int | None:
        return self.exitcode

    def send_signal(self, number: int) -> None:
        assert self.pid
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        with ThreadPoolExecutor() as readers:
            said = [readers.submit(stream.read) for stream in (self.stdout, self.stderr)]
            output, errors = (each.result(timeout) for each in said)
        self.join(timeout)
        return output, errors


def boomerang(*arguments: str) -> Fork:
    """Start ``boomerang`` with these arguments."""
    return Fork(_boomerang, *arguments)


def torchrun(*arguments: str) -> Fork:
    """Start ``torchrun`` for two processes; the launcher alone is a copy, the two are new ones."""
    return Fork(_torchrun, *arguments)


def start_together(function: Callable[..., object], *arguments: object, processes: int = 2) -> list[Fork]:
    """Call a function in copies of this process that find one another as those of ``torchrun`` do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    number = str(processes)
    shared = {"WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = map(str, range(processes))
    return [Fork(_alone, function, *arguments, RANK=rank, LOCAL_RANK=rank, **shared) for rank in ranks]


def two_boomerangs(*arguments: str) -> list[Fork]:
    """Start ``boomerang`` with these arguments in two processes, without a launcher that would end them."""
    return start_together(_boomerang, *arguments)


def in_processes(count: int, function: Callable[..., object], *arguments: object) -> None:
    """Call a function in several processes, to its end in all."""
    started = start_together(function, *arguments, processes=count)
    wait_for(lambda: any(each.poll() for each in started) or all(each.poll() == 0 for each in started))
    for each in started:
        if each.poll() is None:
            each.join(5)  # another one has failed
            each.kill()
        _, errors = each.communicate()
        assert each.returncode == 0, errors[-3000:]


def in_two_processes(function: Callable[..., object], *arguments: object) -> None:
    in_processes(2, function, *arguments)


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str] | Fork | None = None) -> None:
    """Wait until the condition is true, which a process must live to see."""
    deadline = time.monotonic() + 300
    while not condition():
        assert process is None or process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _boomerang(*arguments: str) -> None:
    from boomerang_cli.cli.start import main

    sys.argv = ["boomerang", *arguments]
    main()


def _torchrun(*arguments: str) -> None:
    from torch.distributed.run import main

    main(["--standalone", "--nproc-per-node=2", *arguments])


def _alone(function: Callable[..., object], *arguments: object) -> None:
    """Forget that this process was the only one, and leave the other where both are done."""
    import torch
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    function(*arguments)
    torch.distributed.destroy_process_group()  # else it may abort at exit
