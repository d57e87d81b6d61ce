"""Starts workers for jobs that wait, and finds out what became of those whose worker is gone."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from plankter._errors import Conflict, DiskFull
from plankter.service.jobs import CANCELLED, FAILED, QUEUED, RUNNING, Job, JobFolder, JobStore

log = logging.getLogger(__name__)
LOOK_EVERY_S = 0.3
# jobs that take long wait for each other, and never keep a short one from starting
LANES = {"train": "long", "transform": "long", "evaluate": "long", "drift": "long"}
ROOM = {"long": 1, "short": 2}
KILL_AFTER_S = 15.0
SECRET_TOLD = "PLANKTER_JOB_SECRET"  # set for a worker that is told a secret on its standard input
MAX_ATTEMPTS = 3
WORKER = (sys.executable, "-m", "plankter.service.job_worker")


def lane_of(kind: str) -> str:
    """The queue that a kind of job waits in."""
    return LANES.get(kind, "short")


class JobRunner:
    """A thread of the server. Jobs belong to their own processes, which go on where the server is killed.

    Args:
        workspace: folder of the workspace.
        store: its jobs.
        limits: memory and time that new jobs may take.
        worker: the command that does a job, before the folders of workspace and job.
        environment: what workers are told beside the server's own.
    """

    def __init__(
        self,
        workspace: Path,
        store: JobStore,
        limits: dict[str, float],
        worker: tuple[str, ...] = WORKER,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._worker, self._environment = worker, environment or {}
        self._workspace, self.store, self._limits = workspace, store, limits
        self._open: set[str] = set()  # jobs that have not ended, as far as this server knows
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._cancelled: dict[str, float] = {}
        self._secrets: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True, name="jobs")

    def start(self) -> None:
        """Takes up the jobs that an earlier server left, and looks after them from now on."""
        self._open = {job.id for job in self.store.all() if not job.ended}
        self._thread.start()

    def stop(self) -> None:
        """Leaves the jobs to their processes."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=5)
        for process in self._started.values():
            if process.poll() is None:
                process.returncode = 0  # it is not waited for: else Python warns of a process that was left
        self._started.clear()

    def submit(
        self, kind: str, title: str, arguments: dict[str, Any], secret: dict[str, str] | None = None
    ) -> Job:  # fmt: skip
        """Puts a job into the queue; it is on the disk when this returns, all but ``secret``: that its worker is told, and
        it is forgotten when the job or this server ends."""
        job = self.store.create(kind, title, arguments, self._limits)
        with self._lock:
            if secret:
                self._secrets[job.id] = secret
            self._open.add(job.id)
        self._wake.set()
        return job

    def cancel(self, job_id: str) -> Job:
        """Asks a job to stop; one that waits is cancelled at once.

        Raises:
            NotFound: no such job.
        """
        folder = self.store.folder(job_id)
        folder.cancel_file.touch()
        with folder.lock.held_if_free() as free:
            if free and (job := folder.read()).state == QUEUED:
                return folder.end(job, CANCELLED)
        self._cancelled.setdefault(job_id, time.monotonic())
        return folder.read()

    def retry(self, job_id: str) -> Job:
        """Puts a job that failed or was cancelled into the queue again; what it had finished is not done again.

        Raises:
            NotFound: no such job. Conflict: it has not ended, or ended well.
        """
        folder = self.store.folder(job_id)
        with self._lock:
            if not folder.read().ended:
                raise Conflict("the job has not ended", hint="cancel it first")
            self._reap(job_id)
            with folder.lock.held():
                job = folder.read()
                if job.state not in (FAILED, CANCELLED):
                    raise Conflict(f"the job is {job.state}; only one that failed or was cancelled is done again")
                folder.cancel_file.unlink(missing_ok=True)
                (folder.folder / "progress.json").unlink(missing_ok=True)
                folder.keep_room()
                job = folder.write(replace(job, state=QUEUED, reason=None, ended_at=None, started_at=None, attempts=0))
            self._open.add(job_id)
            self._cancelled.pop(job_id, None)
        self._wake.set()
        return job

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except Exception:
                log.exception("looking after jobs")
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()

    def _look(self) -> None:
        with self._lock:
            ids = sorted(self._open)
        waiting: list[Job] = []
        busy = {"long": 0, "short": 0}
        for job_id in ids:
            with self._lock:  # so that nobody puts a job back into the queue while its old process is let go of
                job = self._looked_at(job_id)
            if job is None:
                continue
            if job.state == QUEUED and job_id not in self._started:
                waiting.append(job)
            else:
                busy[lane_of(job.kind)] += 1
        for job in waiting:
            if busy[lane_of(job.kind)] < ROOM[lane_of(job.kind)]:
                busy[lane_of(job.kind)] += 1
                self._spawn(job)

    def _looked_at(self, job_id: str) -> Job | None:
        """The job where it has not ended; one that has is let go of."""
        try:
            job = self._settle(self.store.folder(job_id))
        except (OSError, DiskFull) as error:  # the disk is full or gone: it is looked at again
            log.error("job %s: %s", job_id, error)
            return None
        except Exception as error:  # noqa: BLE001 - one broken folder must not stop the other jobs
            log.error("job %s is left alone: %s", job_id, error)
            self._open.discard(job_id)
            return None
        if not job.ended:
            return job
        self._open.discard(job_id)
        self._cancelled.pop(job_id, None)
        self._secrets.pop(job_id, None)
        self._reap(job_id)
        return None

    def _settle(self, folder: JobFolder) -> Job:
        """The job as it stands, after what its worker could not say any more has been said for it."""
        job = folder.read()
        if job.ended:
            return job
        self._insist(folder, job)
        started = self._started.get(job.id)
        if started is not None and started.poll() is None:
            return job
        with folder.lock.held_if_free() as free:
            if not free:  # a worker, perhaps of an earlier server, is at it
                return job
            job = folder.read()
            if job.ended:
                return job
            if job.state == RUNNING:
                job = self._after_death(folder, job)
            elif started is not None:  # it ended before it took the lock
                job = folder.end(job, FAILED, "its process could not start; the log has the details")
            elif folder.cancel_file.exists():
                job = folder.end(job, CANCELLED)
            self._reap(job.id)  # only now, as what became of it may not have been noted on a full disk
        return job

    def _after_death(self, folder: JobFolder, job: Job) -> Job:
        if folder.cancel_file.exists():
            return folder.end(job, CANCELLED)
        if job.attempts < MAX_ATTEMPTS:
            log.warning("job %s: its process was ended from outside; it begins again", job.id)
            return folder.write(replace(job, state=QUEUED))
        return folder.end(job, FAILED, f"its process was ended from outside {job.attempts} times")

    def _insist(self, folder: JobFolder, job: Job) -> None:
        """Ends a worker of this server that was asked to stop and does not even run its watch."""
        started, asked = self._started.get(job.id), self._cancelled.get(job.id)
        if started is not None and asked is not None and time.monotonic() - asked > KILL_AFTER_S:
            started.kill()

    def _reap(self, job_id: str) -> int | None:
        found = self._started.pop(job_id, None)
        return None if found is None else found.wait()

    def _spawn(self, job: Job) -> None:
        folder = self.store.root / job.id
        command = [*self._worker, str(self._workspace), str(folder)]
        secret = self._secrets.get(job.id)
        told = {"PYTHONUNBUFFERED": "1", SECRET_TOLD: "1" if secret else "", **self._environment}
        with (folder / "log.txt").open("ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE if secret else subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, close_fds=True, env={**os.environ, **told},
            )  # fmt: skip
        if secret and process.stdin is not None:
            with suppress(OSError), process.stdin as pipe:  # it may have ended already: `_settle` finds out
                pipe.write(json.dumps(secret).encode())
        self._started[job.id] = process
