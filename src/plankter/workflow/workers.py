"""Worker processes that take portions of a run; this process takes its share of them too.

OpenCV is called so often for so little that threads would wait for each other. A worker is a fresh interpreter that
holds nothing but two pipes: it cannot keep a lock or a file of its parent's, and ends with it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO, cast

from plankter.workflow.portions import Job, Measured, job_message, measure_job, measured_of, receive, send

log = logging.getLogger(__name__)
# beyond these the parent's own part, which cannot be shared, takes most of the time; each takes 80 MB
MOST_WORKERS = 3
AT_ONCE = 2  # jobs a worker holds: the next one lies ready while a result is on its way
PIPE_BYTES = 1 << 20
IDLE_S = 60.0
PATIENCE_S = 120.0  # a portion takes a tenth of a second
# what is imported is decided by the parent's own path, never by the folder one stands in
_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from plankter.workflow.worker import serve; serve()"
# one thread each for what NumPy computes, as the cores are shared out already; and memory of one collage is kept for
# the next one (glibc would give it back to the system and fetch it anew, which took a sixth of the time)
_ENVIRONMENT = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}


class _Worker:
    """One process; a thread reads what it says into ``said``."""

    def __init__(self, said: SimpleQueue[tuple[_Worker, tuple[dict[str, Any], list[bytes]] | None]]) -> None:
        self.jobs: dict[int, int] = {}  # number of each job it holds -> the job's place in its run
        self.ready, self.alive = False, True
        self._said = said
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, json.dumps([path or str(Path.cwd()) for path in sys.path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT},
        )
        self._in, self._out = cast(BinaryIO, self.process.stdin), cast(BinaryIO, self.process.stdout)
        _widen(self._out)
        self._thread = threading.Thread(target=self._listen, name="worker", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while (message := receive(self._out)) is not None:
                self._said.put((self, message))
        except (OSError, ValueError) as error:  # closed, or no message at all
            log.debug("worker %d: %s", self.process.pid, error)
        self._said.put((self, None))

    def give(self, number: int, place: int, job: Job) -> bool:
        """Sends a job; False where the process is gone."""
        head, origins = job_message(job)
        try:
            send(self._in, {"number": number, "job": head}, origins)
        except (OSError, ValueError):
            return False
        self.jobs[number] = place
        return True

    def close(self) -> None:
        """Ends the process: its standard input ends, and if that does not help it is killed."""
        with contextlib.suppress(OSError):
            self._in.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join()
        self._out.close()


def _widen(pipe: BinaryIO) -> None:
    """Lets a whole result lie in the pipe, so that a worker need not wait for this process to fetch it in pieces."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # the system's limit for one user is reached
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class Workers:
    """Processes that are started when they are first needed, and end when they have been idle for a minute.

    Args:
        count: how many at most; 0 where everything is done in this process.
    """

    def __init__(self, count: int) -> None:
        self.count = min(count, MOST_WORKERS) if sys.executable and not getattr(sys, "frozen", False) else 0
        self._said: SimpleQueue[tuple[_Worker, tuple[dict[str, Any], list[bytes]] | None]] = SimpleQueue()
        self._workers: list[_Worker] = []
        self._number = 0
        self._busy = threading.Lock()
        self._idle: threading.Timer | None = None

    @property
    def started(self) -> bool:
        """Whether there are processes."""
        return bool(self._workers)

    def process_ids(self) -> list[int]:
        """Of the processes there are."""
        return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """Ends the processes."""
        with self._busy:
            self._end()

    def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    def _close_if_idle(self) -> None:
        if self._busy.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._busy.release()

    def measured(self, jobs: Sequence[Job]) -> Iterator[Measured]:
        """Does the jobs, in other processes and in this one; results in order, a few ahead at most.

        A job that a worker fails at, or dies over, is done again here.

        Raises:
            PlankterError, OSError, ValueError: whatever `measure_job` raises.
        """
        if not self._busy.acquire(blocking=False):  # another thread of this process has them
            yield from map(measure_job, jobs)
            return
        try:
            self._start()
            for worker in self._workers:  # what an ingest that was broken off still waits for is nobody's
                worker.jobs = dict.fromkeys(worker.jobs, -1)
            yield from self._shared(jobs)
        finally:
            self._rest()
            self._busy.release()

    def start(self) -> None:
        """Starts the processes, so that they are ready when jobs come."""
        if self._busy.acquire(blocking=False):
            try:
                self._start()
                self._rest()
            finally:
                self._busy.release()

    def _rest(self) -> None:
        if self._workers:
            self._idle = threading.Timer(IDLE_S, self._close_if_idle)
            self._idle.daemon = True
            self._idle.start()

    def _start(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        while len(self._workers) < self.count:
            try:
                self._workers.append(_Worker(self._said))
            except OSError as error:
                log.warning("no worker process can be started, the work is done without: %s", error)
                self.count = len(self._workers)

    def _shared(self, jobs: Sequence[Job]) -> Iterator[Measured]:
        found: dict[int, Measured] = {}
        again: list[int] = []
        window = (AT_ONCE + 1) * self.count + 2
        following = 0
        for place in range(len(jobs)):
            while place not in found:
                last = min(len(jobs), place + window)
                following = self._hand_out(jobs, following, last)
                self._collect(found, again, wait=False)
                if place in found:
                    break
                if again:
                    mine = again.pop()
                    found[mine] = measure_job(jobs[mine])
                elif following < last:
                    following += 1
                    found[following - 1] = measure_job(jobs[following - 1])
                elif (mine := self._take_back() if following == len(jobs) else -1) >= 0:
                    found[mine] = measure_job(jobs[mine])
                else:
                    self._collect(found, again, wait=True)
            yield found.pop(place)

    def _take_back(self) -> int:
        """A job that a worker holds but has not begun, to be done here at the end; -1 where there is none."""
        for worker in self._workers:
            held = [(number, place) for number, place in worker.jobs.items() if place >= 0]
            if len(held) > 1:
                worker.jobs[held[-1][0]] = -1  # its answer will be of no use
                return held[-1][1]
        return -1

    def _hand_out(self, jobs: Sequence[Job], following: int, last: int) -> int:
        """Gives each worker what it can hold of the jobs ``following`` to ``last``; returns the next one."""
        for held in range(AT_ONCE):  # first one each, then a second one
            for worker in self._workers:
                if following < last and worker.ready and worker.alive and len(worker.jobs) <= held:
                    self._number += 1
                    if worker.give(self._number, following, jobs[following]):
                        following += 1
        return following

    def _collect(self, found: dict[int, Measured], again: list[int], *, wait: bool) -> None:
        """Takes in what the workers said; with ``wait`` until one of them said something."""
        while True:
            try:
                worker, message = self._said.get(block=wait, timeout=PATIENCE_S)
            except Empty:
                for worker in self._workers if wait else []:
                    worker.process.kill()  # which its thread then says
                return
            wait = False
            if message is None:
                self._lost(worker, again)
                continue
            head, blobs = message
            worker.ready = True
            place = worker.jobs.pop(head.get("number", 0), None)
            if place is None or place < 0:
                continue
            if "measured" in head:
                found[place] = measured_of(head["measured"], *blobs)
            else:
                log.debug("a worker process failed at portion %d: %s", place, head["failed"])
                again.append(place)

    def _lost(self, worker: _Worker, again: list[int]) -> None:
        if worker not in self._workers:
            return
        worker.alive = False
        self._workers.remove(worker)
        worker.close()
        again += [place for place in worker.jobs.values() if place >= 0]
        self.count = len(self._workers)  # one that ended by itself is not started again
        log.warning("a worker process ended (status %s); its share is done here", worker.process.returncode)
