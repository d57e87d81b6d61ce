"""Jobs as folders: what was asked, how far it is, what came of it. They outlive the server and its workers.

``jobs/<id>/`` of the workspace holds ``job.json`` (written whole, only by whoever holds the job's lock), ``progress.json``,
``log.txt``, ``result.json`` and the files that the job makes. A worker holds the lock as long as it lives: a job that says
it is running and whose lock is free belongs to a worker that was killed.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plankter._errors import Conflict, NotFound, StoreError
from plankter.store.files import write_text
from plankter.store.locks import Lock

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)
LOG_TAIL_BYTES = 60_000
ROOM_BYTES = 32_768
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")


@dataclass(frozen=True)
class Job:
    """One job as it stands. ``attempts``: workers that began it; ``reason``: why it failed."""

    id: str
    kind: str
    title: str
    arguments: dict[str, Any]
    state: str = QUEUED
    created_at: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    attempts: int = 0
    reason: str | None = None
    limits: dict[str, float] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether it is over, well or not: nothing will change any more unless it is begun again."""
        return self.state in ENDED

    @property
    def kept(self) -> bool:
        """Whether it stays until somebody removes it; else it goes an hour after it has ended (see `try_runs`)."""
        return self.kind != "try" and self.arguments.get("keep") is not False


@dataclass(frozen=True)
class JobProgress:
    """How far a job is: the step it is at, and the seconds this step will still take, where that can be told."""

    step: str
    done: int
    total: int | None
    seconds_left: float | None = None


def now() -> str:
    """The time in UTC, as jobs note it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JobFolder:
    """The files of one job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = Lock(folder / ".lock")
        self.secret: dict[str, str] | None = None  # an account that the server told this process, on no disk

    def read(self) -> Job:
        """The job as it stands.

        Raises:
            NotFound: there is none (any more).
        """
        try:
            facts = json.loads((self.folder / "job.json").read_text(encoding="utf-8"))
            return Job(**facts)
        except (OSError, ValueError, TypeError) as error:
            raise NotFound(f"no job {self.folder.name!r}") from error

    def write(self, job: Job) -> Job:
        """Notes the job, whole or not at all; the caller holds the lock or has just made the folder."""
        write_text(self.folder / "job.json", json.dumps(asdict(job), ensure_ascii=False) + "\n")
        return job

    def end(self, job: Job, state: str, reason: str | None = None) -> Job:
        """Notes that a job has ended; on a full disk, too."""
        self._room.unlink(missing_ok=True)
        return self.write(replace(job, state=state, reason=reason, ended_at=now()))

    def progress(self) -> JobProgress | None:
        """How far it is, None where nothing is known yet."""
        try:
            return JobProgress(**json.loads((self.folder / "progress.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def result(self) -> dict[str, Any] | None:
        """What came of it, None where it has not ended well."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def log_tail(self) -> str:
        """The end of the log."""
        try:
            with (self.folder / "log.txt").open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - LOG_TAIL_BYTES))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    @property
    def _room(self) -> Path:
        return self.folder / ".room"

    def keep_room(self) -> None:
        """Takes a little of the disk, so that the end of the job can be noted where the disk is full by then.

        Raises:
            OSError: it is full already.
        """
        self._room.write_bytes(bytes(ROOM_BYTES))

    @property
    def cancel_file(self) -> Path:
        """The file that asks its worker to stop, by being there."""
        return self.folder / "cancel"


class JobStore:
    """All jobs of a workspace."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, job_id: str) -> JobFolder:
        """The files of a job.

        Raises:
            NotFound: no such job.
        """
        if not _ID.fullmatch(job_id) or not (self.root / job_id / "job.json").is_file():
            raise NotFound(f"no job {job_id!r}")
        return JobFolder(self.root / job_id)

    def create(self, kind: str, title: str, arguments: dict[str, Any], limits: dict[str, float]) -> Job:
        """A new job in the queue."""
        job_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        folder = self.root / job_id
        try:
            folder.mkdir(parents=True)
            found = JobFolder(folder)
            found.keep_room()
            return found.write(Job(job_id, kind, title, arguments, created_at=now(), limits=limits))
        except (OSError, StoreError):  # it was never promised
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def all(self) -> list[Job]:
        """Every job, the newest first."""
        found = []
        if not self.root.is_dir():
            return []
        for path in sorted(self.root.iterdir(), reverse=True):
            if _ID.fullmatch(path.name):
                try:
                    found.append(JobFolder(path).read())
                except NotFound:
                    continue
        return found

    def recent(self, count: int) -> list[Job]:
        """The newest jobs, without reading all of them."""
        found: list[Job] = []
        names = (
            sorted((p.name for p in self.root.iterdir() if _ID.fullmatch(p.name)), reverse=True)
            if self.root.is_dir()
            else []
        )
        for name in names:
            if len(found) == count:
                break
            try:
                found.append(JobFolder(self.root / name).read())
            except NotFound:
                continue
        return found

    def remove(self, job_id: str) -> None:
        """Removes a job that has ended, with all its files.

        Raises:
            NotFound: no such job. Conflict: it has not ended.
        """
        folder = self.folder(job_id)
        if not folder.read().ended:
            raise Conflict("the job has not ended", hint="cancel it first")
        shutil.rmtree(folder.folder, ignore_errors=True)
