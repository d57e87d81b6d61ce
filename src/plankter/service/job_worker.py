"""The process that does one job: it holds the job's lock, tells how far it is, keeps to the limits, and ends honestly."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from plankter._errors import DiskFull, PlankterError
from plankter.service.jobs import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Job, JobFolder, JobProgress, now
from plankter.store.files import is_full, write_text

log = logging.getLogger("plankter.job")
TELL_EVERY_S = 0.25
WATCH_EVERY_S = 0.5
PATIENCE_S = 10.0  # until a step that does not tell where it is, is ended anyway


class Cancelled(Exception):
    """Raised out of a step's progress."""


class Teller:
    """Progress of a job into its folder, a few times a second; raises where the job is to stop."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._step, self._began, self._told = "", 0.0, 0.0
        self.stop = threading.Event()

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """A `workflow.progress.Progress`."""
        if self.stop.is_set():
            raise Cancelled
        at = time.monotonic()
        if step != self._step:
            self._step, self._began = step, at
        elif at - self._told < TELL_EVERY_S and done != total:
            return
        self._told = at
        left = None
        if total and done and at - self._began > 1:
            left = round((at - self._began) * (total - done) / done, 1)
        text = json.dumps(asdict(JobProgress(step, done, total, left)))
        partial = self._folder.folder / ".progress.partial"
        partial.write_text(text, encoding="utf-8")  # not synced: what is lost in a crash is told anew
        partial.replace(self._folder.folder / "progress.json")


def memory_mb() -> float | None:
    """Memory that this process and its children hold, MB; None where the system does not tell."""
    pages = 0
    try:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
        for pid in (os.getpid(), *children):
            try:
                pages += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
            except (OSError, IndexError):
                continue
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Watch(threading.Thread):
    """Sees to it that a job stops where it is told to, or where it takes more than it may."""

    def __init__(self, folder: JobFolder, job: Job, teller: Teller) -> None:
        super().__init__(daemon=True)
        self._folder, self._job, self._teller = folder, job, teller
        self.ending: tuple[str, str | None] | None = None
        self.finished = threading.Event()

    def run(self) -> None:
        """Until the job has ended."""
        started = time.monotonic()
        asked: float | None = None
        while not self.finished.wait(WATCH_EVERY_S):
            if self.ending is None:
                self.ending = self._why(time.monotonic() - started)
                if self.ending is None:
                    continue
                self._teller.stop.set()
                asked = time.monotonic()
            if asked is not None and time.monotonic() - asked > PATIENCE_S:
                self._folder.end(self._job, *self.ending)
                os._exit(1)

    def _why(self, seconds: float) -> tuple[str, str | None] | None:
        limits = self._job.limits
        if self._folder.cancel_file.exists():
            return CANCELLED, None
        if limits.get("seconds") and seconds > limits["seconds"]:
            return FAILED, f"it took longer than the limit of {limits['seconds']:g} s"
        used = memory_mb()
        if limits.get("memory_mb") and used is not None and used > limits["memory_mb"]:
            return FAILED, f"it took {used:,.0f} MB of memory, the limit is {limits['memory_mb']:,.0f} MB"
        return None


def work(workspace: Path, folder: JobFolder) -> None:
    """Does the job in ``folder``, unless another process does or it has ended."""
    with folder.lock.held_if_free() as free:
        if not free:
            return
        job = folder.read()
        if job.state != QUEUED:
            return
        try:
            job = folder.write(replace(job, state=RUNNING, started_at=now(), attempts=job.attempts + 1))
        except DiskFull as error:
            folder.end(job, FAILED, _said(error))
            return
        teller = Teller(folder)
        watch = Watch(folder, job, teller)
        watch.start()
        log.info("%s begins (attempt %d, process %d)", job.kind, job.attempts, os.getpid())
        state, reason = _outcome(workspace, folder, job, teller, watch)
        watch.finished.set()
        folder.end(job, state, reason)
        log.info("%s: %s", state, reason or job.title)


def _said(error: PlankterError) -> str:
    return f"{error.message}{f' ({error.hint})' if error.hint else ''}"


def _outcome(
    workspace: Path, folder: JobFolder, job: Job, teller: Teller, watch: Watch
) -> tuple[str, str | None]:  # fmt: skip
    from plankter.service.job_kinds import KINDS

    try:
        result: dict[str, Any] = KINDS[job.kind].run(workspace, folder, job.arguments, teller)
        write_text(folder.folder / "result.json", json.dumps(result, ensure_ascii=False, default=str))
    except Cancelled:
        return watch.ending or (CANCELLED, None)
    except PlankterError as error:
        log.error("%s", error)
        return watch.ending or (FAILED, _said(error))
    except OSError as error:
        if is_full(error):
            log.error("%s", error)
            return watch.ending or (
                FAILED,
                "the disk is full; what was half written has been removed (free some space)",
            )
        log.exception("the disk or the network refused")
        return FAILED, f"{error.strerror or error}"
    except MemoryError:
        return FAILED, "there is not enough memory"
    except Exception as error:
        log.exception("not expected")
        return FAILED, f"an error in the program, {type(error).__name__}: {error}; the log has the details"
    return DONE, None


def main() -> None:
    """``python -m plankter.service.job_worker WORKSPACE JOB_FOLDER``; what is written goes to the job's log."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = JobFolder(Path(sys.argv[2]))
    if os.environ.pop("PLANKTER_JOB_SECRET", ""):
        folder.secret = json.load(sys.stdin)
    if folder.read().kind in ("train", "transform", "evaluate") and hasattr(os, "nice"):
        os.nice(10)  # a prediction that is waited for comes first
    work(Path(sys.argv[1]), folder)


if __name__ == "__main__":
    main()
