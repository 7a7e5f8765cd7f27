"""The worker processes of one repetition: started, led stage by stage, timed out and ended by their handles."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess
    from types import TracebackType
    from typing import Self

DEADLINE_SECONDS = 60.0

_FAILED = "failed"
_FINISHED = "finished"


class CrewError(RuntimeError):
    """A worker failed, died or did not get to its next stage in time."""


class Control:
    """A worker's line to the harness."""

    def __init__(self, line: Connection) -> None:
        self._line = line

    def post(self, stage: str, value: Any = None) -> None:
        """Tell the harness that this worker has reached ``stage``."""
        self._line.send((stage, value))

    def answered(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for the answer; `answer` takes it."""
        return self._line.poll(seconds)

    def answer(self) -> Any:
        """Wait for what the harness says to everybody at this stage."""
        return self._line.recv()

    def meet(self, stage: str, value: Any = None) -> Any:
        """Post and wait for the answer, which comes when every worker has reached ``stage``."""
        self.post(stage, value)
        return self.answer()


class _Worker:
    def __init__(self, title: str, process: ForkProcess, line: Connection) -> None:
        self.title = title
        self.process = process
        self.line = line
        self.inbox: deque[tuple[str, Any]] = deque()
        self.stage = "start"
        self.gone = False

    def __str__(self) -> str:
        return f"{self.title} (pid {self.process.pid})"

    def read(self) -> None:
        """Take in what the worker has posted, and notice whether it can post more."""
        self.gone = not self.process.is_alive()
        try:
            while self.line.poll():
                self.stage, value = self.line.recv()
                self.inbox.append((self.stage, value))
        except EOFError:
            self.gone = True
        if self.stage == _FAILED:
            raise CrewError(f"{self} failed:\n{self.inbox[-1][1]}")
        if self.gone and self.stage != _FINISHED:
            self.process.join()
            raise CrewError(f"{self} died after stage {self.stage!r} with exit code {self.process.exitcode}")

    def tell(self, answer: Any) -> None:
        """Answer the worker, or say how it ended."""
        try:
            self.line.send(answer)
        except BrokenPipeError:
            self.process.join()
            self.read()
            raise

    def take(self, stage: str) -> Any:
        """Return what the worker posted with ``stage``, which must be its next."""
        posted, value = self.inbox.popleft()
        if posted != stage:
            raise CrewError(f"{self} is at stage {posted!r} where {stage!r} was due: correct its body")
        return value


class Crew:
    """Runs worker bodies ``body(control, *arguments)`` in forked processes and leads them through their stages.

    The harness has one thread and no socket, context or bus of a peer open when it forks, so the workers
    inherit nothing half-used; whatever a peer needs is made in the worker.
    """

    def __init__(self, deadline: float = DEADLINE_SECONDS) -> None:
        self._end = time.monotonic() + deadline
        self._deadline = deadline
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stuck = [worker for worker in self._workers if not self._ended(worker, at_once=error is not None)]
        if error is None and stuck:
            names = ", ".join(map(str, stuck))
            raise CrewError(f"after {self._deadline:g} s these workers had finished and did not exit: {names}")

    def start(self, title: str, body: Callable[..., Any], *arguments: Any, cpu: int | None = None) -> None:
        """Fork one worker; its title names it in errors; ``cpu`` is the one it stays on, if not ``None``."""
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, cpu, body, arguments), name=title, daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(title, process, ours))

    def meet(self, stage: str, answer: Any = None) -> list[Any]:
        """Wait until every worker has reached ``stage``, then answer all; returns what each posted with it."""
        values = self.gather(stage)
        self.answer(answer)
        return values

    def answer(self, answer: Any = None) -> None:
        """Answer all, where they wait after what they have posted."""
        for worker in self._workers:
            worker.tell(answer)

    def results(self) -> list[Any]:
        """Wait until every worker has finished; returns what each body returned."""
        return self.gather(_FINISHED)

    def gather(self, stage: str) -> list[Any]:
        """Wait until every worker has posted ``stage``; returns what each posted, in the order of their start.

        Raises:
            CrewError: a worker failed (with its traceback), died, or the deadline passed.
        """
        while not all(worker.inbox for worker in self._workers):
            self._read_some(stage)
        return [worker.take(stage) for worker in self._workers]

    def _read_some(self, stage: str) -> None:
        waits: dict[Any, _Worker] = {}
        for worker in self._workers:
            if not worker.gone:
                waits[worker.line] = waits[worker.process.sentinel] = worker
        ready = wait(list(waits), self._left())
        if not ready:
            late = ", ".join(f"{worker}, last at {worker.stage!r}" for worker in self._workers if not worker.inbox)
            raise CrewError(
                f"after {self._deadline:g} s these workers are not at stage {stage!r}: {late}; "
                "ask for fewer events if they are not stuck"
            )
        for worker in {waits[handle] for handle in ready}:
            worker.read()

    def _ended(self, worker: _Worker, at_once: bool) -> bool:
        worker.process.join(0 if at_once else self._left())
        willing = not worker.process.is_alive()
        if not willing:
            worker.process.kill()
            worker.process.join()
        worker.line.close()
        return willing

    def _left(self) -> float:
        return max(0.0, self._end - time.monotonic())


def places(workers: int, spread: bool) -> list[int | None]:
    """Return a CPU for each of ``workers``: one after the other, or ``None`` (the kernel's choice) for all."""
    cpus = sorted(os.sched_getaffinity(0))
    return [cpus[worker % len(cpus)] if spread else None for worker in range(workers)]


def keep_to(cpus: int) -> None:
    """Have this process, and all that it starts, run on so many of the CPUs that it may use.

    Raises:
        CrewError: it may not use so many.
    """
    usable = sorted(os.sched_getaffinity(0))
    if cpus > len(usable):
        raise CrewError(f"--cpus {cpus} is more than the {len(usable)} CPUs that this process may use")
    os.sched_setaffinity(0, usable[:cpus])


def cpu_seconds() -> float:
    """Return the CPU seconds of this process so far, all threads, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU seconds of another process so far, all threads.

    Its CPU clock has the number that clock_getcpuclockid(3) makes of the pid; /proc counts in ticks of 10 ms.
    """
    return time.clock_gettime_ns(~pid << 3 | 2) / 1e9


def _work(line: Connection, cpu: int | None, body: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # Ctrl-C reaches the whole group of processes: the harness alone answers it, by ending its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    control = Control(line)
    try:
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        control.post(_FINISHED, body(control, *arguments))
    except BaseException:
        control.post(_FAILED, traceback.format_exc())
        raise SystemExit(1) from None
