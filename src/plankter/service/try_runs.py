"""Analyses of whole runs (in a workspace of their own inside the job's folder) and evaluations that nobody keeps: removed with all
that was sent: an hour after it has ended, when asked, when the server ends, and where that was killed, when the next one starts."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from plankter._errors import NotFound
from plankter.service.job_runner import JobRunner
from plankter.service.jobs import Job, JobStore
from plankter.service.tries import KEPT_S
from plankter.service.uploads import UploadStore

log = logging.getLogger(__name__)
KIND = "try"
WORKSPACE = "workspace"
LOOK_EVERY_S = 1.0
PATIENCE_S = 8.0  # at the end of the server, for jobs that are still at it


class TryRuns:
    """Sees to it that nothing of them stays."""

    def __init__(self, jobs: JobStore, runner: JobRunner, uploads: UploadStore) -> None:
        self._jobs, self._runner, self._uploads = jobs, runner, uploads
        self._doomed: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True, name="tries")

    def start(self) -> None:
        """Removes what an earlier server left, and looks after those to come."""
        for job in self._all():
            self.forget(job.id)
        for path in self._uploads.root.iterdir():
            try:
                if self._uploads.get(path.name).facts().get("purpose") == KIND and path.name not in self._used():
                    self._uploads.remove(path.name)
            except (NotFound, OSError, ValueError):
                continue
        self._thread.start()

    def stop(self) -> None:
        """Ends and removes all of them; what a job leaves that does not end in time, the next start removes."""
        self._stop.set()
        self._thread.join(timeout=5)
        for job in self._all():
            self.forget(job.id)
        until = time.monotonic() + PATIENCE_S
        while self._doomed and time.monotonic() < until:
            time.sleep(0.1)
            self._look()

    def forget(self, job_id: str) -> None:
        """Removes one now, or as soon as its process has ended.

        Raises:
            NotFound: no such analysis.
        """
        folder = self._jobs.folder(job_id)
        job = folder.read()
        if job.kept:
            raise NotFound("this is kept; its job can be removed")
        if job.ended:
            self._remove(job)
        else:
            self._runner.cancel(job_id)
            self._doomed.add(job_id)

    def remove(self, job_id: str) -> None:
        """Removes a job that has ended, kept or not; one that is not kept goes with its upload.

        Raises:
            NotFound: no such job. Conflict: it has not ended.
        """
        job = self._jobs.folder(job_id).read()
        if job.ended and not job.kept:
            self._remove(job)
        else:
            self._jobs.remove(job_id)

    def folder_of(self, job_id: str) -> Path:
        """The workspace of one.

        Raises:
            NotFound: it is gone.
        """
        try:
            folder = self._jobs.folder(job_id)
            if folder.read().kind == KIND and (folder.folder / WORKSPACE).is_dir():
                return folder.folder / WORKSPACE
        except NotFound:
            pass
        raise NotFound("this analysis was not kept", hint="analyse the run again, and keep it if it is needed")

    def _all(self) -> list[Job]:
        return [job for job in self._jobs.all() if not job.kept]

    def _used(self) -> set[str]:
        return {str(job.arguments.get("upload")) for job in self._all()}

    def _loop(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self._look()
            except Exception:
                log.exception("removing analyses that are not kept")

    def _look(self) -> None:
        for job in self._all():
            if job.ended and (job.id in self._doomed or _age_s(job) > KEPT_S):
                self._remove(job)

    def _remove(self, job: Job) -> None:
        try:
            self._jobs.remove(job.id)
            upload = job.arguments.get("upload")
            if upload and not any(other.arguments.get("upload") == upload for other in self._jobs.all()):
                self._uploads.remove(str(upload))
        except NotFound:
            pass  # it was removed already
        self._doomed.discard(job.id)
        shutil.rmtree(self._jobs.root / job.id, ignore_errors=True)


def _age_s(job: Job) -> float:
    if not job.ended_at:
        return 0.0
    return (datetime.now(UTC) - datetime.fromisoformat(job.ended_at)).total_seconds()
