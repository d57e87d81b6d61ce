"""The archive: one folder a run, files that are written once, and `run.json`, whose presence is the commit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plankter._errors import NotFound
from plankter.store.archive_writer import RunWriter
from plankter.store.archived_run import RUN_FILE, ArchivedRun, run_lock
from plankter.store.encoding import json_text, sample_object, sample_of
from plankter.store.files import disk_full_said, safe_name, sync, write_text
from plankter.store.locks import Lock
from plankter.types import Sample

PARTIAL, REMOVED = ".partial-", ".removed-"


def _is_run_id(name: str) -> bool:
    return len(name) == 16 and set(name) <= set("0123456789abcdef")


class Archive:
    """A local folder of runs; safe for any number of processes.

    Args:
        root: the folder; made with the first run.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def _lock(self, run_id: str) -> Lock:
        return run_lock(self.root / run_id)

    def _folder(self, run_id: str) -> Path:
        if not _is_run_id(run_id):
            raise NotFound(f"no run {run_id!r} in the archive: expected 16 hex digits")
        return self.root / run_id

    def run_ids(self) -> list[str]:
        """Runs that are wholly there."""
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if _is_run_id(p.name) and (p / RUN_FILE).is_file())

    def has(self, run_id: str) -> bool:
        """True where the run is wholly there."""
        return (self._folder(run_id) / RUN_FILE).is_file()

    def open(self, run_id: str) -> ArchivedRun:
        """A run to read or add to.

        Raises:
            NotFound: not in the archive.
            StoreError: damaged.
        """
        if not self.has(run_id):
            raise NotFound(f"no run {run_id!r} in the archive")
        return ArchivedRun(self._folder(run_id), self.attached().get(run_id))

    @contextmanager
    def create(self, run_id: str) -> Iterator[RunWriter]:
        """Writes a run, or writes it anew; a second caller for the same run waits for the first.

        Nothing is left behind where the block raises or ends without ``commit``.

        Raises:
            StoreError: the disk is full.
            Conflict: pixels, or the number of particles, differ from what is in the archive.
        """
        folder = self._folder(run_id)
        with self._lock(run_id).held():
            partial = self.root / f"{PARTIAL}{run_id}"
            shutil.rmtree(partial, ignore_errors=True)
            try:
                with disk_full_said(folder):
                    partial.mkdir(parents=True)
                    with RunWriter(partial, folder) as writer:
                        yield writer
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def remove(self, run_id: str) -> None:
        """Takes a run out: first `run.json`, so that a kill leaves it wholly out.

        Raises:
            NotFound: not in the archive.
        """
        with self._lock(run_id).held():
            folder = self._folder(run_id)
            if not self.has(run_id):
                raise NotFound(f"no run {run_id!r} in the archive")
            (folder / RUN_FILE).unlink()
            sync(folder)
            self._clear(folder)
            self._attachment(run_id).unlink(missing_ok=True)

    def _clear(self, folder: Path) -> None:
        gone = folder.with_name(f"{REMOVED}{folder.name}-{os.getpid()}")
        folder.rename(gone)
        shutil.rmtree(gone)

    def sweep(self) -> list[str]:
        """Removes what killed processes left of runs, but nothing of one at work.

        Returns:
            The runs concerned.
        """
        found = set()
        for path in list(self.root.iterdir()) if self.root.is_dir() else []:
            run_id = path.name.removeprefix(PARTIAL).removeprefix(REMOVED)[:16]
            if not path.is_dir() or not _is_run_id(run_id):
                continue
            if path.name == run_id and not self._leftovers(path):
                continue
            with self._lock(run_id).held_if_free() as free:
                if not free or not path.exists():
                    continue
                if path.name != run_id or not (path / RUN_FILE).exists():
                    shutil.rmtree(path)
                    found.add(run_id)
                for file in self._leftovers(path) if path.exists() else []:
                    file.unlink()
                    found.add(run_id)
        return sorted(found)

    def _leftovers(self, folder: Path) -> list[Path]:
        """Files in a run's folder that a killed update left, or all of them where it was not committed."""
        if not (folder / RUN_FILE).exists():
            return [path for path in folder.rglob("*") if path.is_file()] or [folder]
        return RunWriter.leftovers(folder)

    # -- samples: the latest word on each, kept so that a catalogue can be made anew
    def put_sample(self, sample: Sample) -> None:
        """Keeps a sample's metadata, replacing earlier ones."""
        write_text(
            self.root / "samples" / f"{safe_name(sample.sample_id)}.json", json_text(sample_object(sample)) + "\n"
        )

    def samples(self) -> list[Sample]:
        """All samples that were kept, by sample_id."""
        paths = (self.root / "samples").glob("[!.]*.json")
        found = [sample_of(json.loads(path.read_text(encoding="utf-8"))) for path in paths]
        return sorted(found, key=lambda sample: sample.sample_id)

    def _attachment(self, run_id: str) -> Path:
        return self.root / "samples" / "attached" / f"{self._folder(run_id).name}.json"

    def attach(self, run_id: str, sample_id: str) -> None:
        """Notes that a run belongs to another sample than it was ingested with.

        Raises:
            NotFound: not in the archive.
        """
        if not self.has(run_id):
            raise NotFound(f"no run {run_id!r} in the archive")
        write_text(self._attachment(run_id), json_text({"sample_id": sample_id}) + "\n")

    def attached(self) -> dict[str, str]:
        """run_id -> sample_id of the runs that were attached to a sample after their ingest."""
        paths = (self.root / "samples" / "attached").glob("[!.]*.json")
        return {path.stem: json.loads(path.read_text(encoding="utf-8"))["sample_id"] for path in paths}
