"""Writes one run's folder: pixels as they come, tables at the end, `run.json` last."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from plankter._errors import Conflict, StoreError
from plankter.store.archived_run import RUN_FILE, RUN_FORMAT, ArchivedRun, read_run_file
from plankter.store.encoding import json_text, run_object
from plankter.store.files import plain_name, sha256_of, sync, write_text
from plankter.store.parquet import feature_table, new_pixels, particle_table, write_table
from plankter.store.zip_members import PackedPixels, ZipWriter, pack_pixels
from plankter.types import ImportedLabel, Particles, Run
from plankter.vignettes.codec import decode_image


class RunWriter:
    """Takes a run's particles one by one, then its tables; made by `Archive.create`.

    Args:
        partial: folder to write in.
        folder: the run's folder; may exist, then it is written anew.
    """

    def __init__(self, partial: Path, folder: Path) -> None:
        self._partial, self._folder = partial, folder
        self._packs = {kind: ZipWriter(partial / f"{kind}s.zip") for kind in ("vignette", "mask")}
        self._pixels = new_pixels()
        self._closed: dict[str, tuple[str, int]] | None = None

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError, ValueError):  # the folder is thrown away; what matters is the first error
            self._close()

    def _close(self) -> dict[str, tuple[str, int]]:
        """SHA-256 and bytes of each zip, by its role."""
        if self._closed is None:
            self._closed = {}  # once only, also where the disk is full
            (first, one), (second, other) = self._packs.items()
            try:
                self._closed[f"{first}s"] = one.close()
            finally:
                self._closed[f"{second}s"] = other.close()
        return self._closed

    def _fill(self, count: int) -> None:
        while len(self._pixels["sha256"]) < count:
            for name, values in self._pixels.items():
                values.append(None if name == "sha256" else 0 if name.endswith("_px") else -1)

    def add(self, index: int, vignette_png: bytes | None, mask_png: bytes | None) -> None:
        """Adds a particle's pixels, by rising index; particles without any may be left out.

        Raises:
            StoreError: not by rising index.
        """
        self.add_packed(pack_pixels([(index, vignette_png, mask_png)]), index, index + 1)

    def add_packed(self, packed: PackedPixels, start: int, stop: int) -> None:
        """Adds the pixels of the particles ``start`` to ``stop``, packed by `pack_pixels`.

        Raises:
            StoreError: not by rising index, or a particle that is none of these.
        """
        pixels = self._pixels
        if start < len(pixels["sha256"]):
            raise StoreError(f"particle {start} came after particle {len(pixels['sha256']) - 1}")
        for kind, members in (("vignette", packed.vignettes), ("mask", packed.masks)):
            if any(not start <= index < stop for index in members.index):
                raise StoreError(f"expected pixels of the particles {start} to {stop - 1}, got {members.index}")
            self._fill(stop)
            at = self._packs[kind].add(members)
            offsets, lengths = pixels[f"{kind}_offset"], pixels[f"{kind}_length"]
            for index, offset, length in zip(members.index, members.offset, members.length, strict=True):
                offsets[index], lengths[index] = at + offset, length
        widths, heights, digests = (pixels[name] for name in ("vignette_width_px", "vignette_height_px", "sha256"))
        for index, digest, size in zip(packed.vignettes.index, packed.sha256, packed.size_px, strict=True):
            digests[index] = digest
            widths[index], heights[index] = size

    def commit(
        self,
        run: Run,
        particles: Particles,
        labels: Sequence[ImportedLabel],
        feature_set: str,
        feature_version: str,
        feature_columns: Sequence[str],
        feature_values: npt.NDArray[np.float32],
        fringe_px: float,
    ) -> None:
        """Writes the tables and puts the run in its place.

        Args:
            run: its facts.
            particles: all of them.
            labels: classes given in the instrument's software.
            feature_set: name of the measures.
            feature_version: their version.
            feature_columns: their names.
            feature_values: float32 (n, k).
            fringe_px: the instrument's fringe correction.

        Raises:
            StoreError: the run_id is not the one that was asked for, or the tables do not fit together.
            Conflict: pixels, or the number of particles, differ from what is in the archive.
        """  # fmt: skip
        n = len(particles)
        if run.run_id != self._folder.name:
            raise StoreError(f"run {run.run_id} was written as {self._folder.name}")
        if len(self._pixels["sha256"]) > n or np.shape(feature_values) != (n, len(feature_columns)):
            shape = f"{len(self._pixels['sha256'])} pixels and features of shape {np.shape(feature_values)}"
            raise StoreError(f"run {run.run_id} has {n} particles, but {shape}")
        self._fill(n)
        zips = self._close()
        old = ArchivedRun(self._folder) if (self._folder / RUN_FILE).exists() else None
        if old is not None:
            self._compare(old, n)
        features = f"features/{plain_name(feature_set)}-{plain_name(feature_version)}.parquet"
        files = {"vignettes": "vignettes.zip", "masks": "masks.zip", "instrument": "instrument.parquet"}
        files |= {"labels": "labels.json", "features": features}
        (self._partial / "features").mkdir()
        with ThreadPoolExecutor(2) as pool:  # the disk takes in the pixels while the tables are made
            synced = [pool.submit(sync, self._partial / files[role]) for role in zips]
            table, named = particle_table(particles, self._pixels), {"run_id": run.run_id}
            write_table(table, self._partial / files["instrument"], named)
            facts = {"name": feature_set, "version": feature_version}
            write_table(feature_table(feature_columns, feature_values), self._partial / features, facts)
            listed = [[label.index, label.class_name, label.classification] for label in labels]
            (self._partial / files["labels"]).write_text(json_text(listed) + "\n", encoding="utf-8")
            for one in synced:
                one.result()
        offsets = {kind: np.array(self._pixels[f"{kind}_offset"], np.int64) for kind in self._packs}
        counts = {f"{kind}s": int((at >= 0).sum()) for kind, at in offsets.items()}
        counts |= {"particles": n, "failures": sum(failure is not None for failure in particles.failure)}
        head = {"format": RUN_FORMAT, "run": run_object(run), "fringe_px": float(fringe_px), "counts": counts}
        self._place(files, head, old, zips)

    def _compare(self, old: ArchivedRun, n: int) -> None:
        """Refuses to take away or change pixels that are in the archive."""
        run_id, hint = old.run.run_id, "remove the run first to read it anew; nothing was changed"
        if len(old) != n:
            raise Conflict(f"run {run_id} has {len(old)} particles in the archive, now {n}", hint=hint)
        for index, (before, now) in enumerate(zip(old.vignette_sha256(), self._pixels["sha256"], strict=True)):
            if before is None or before == now:
                continue
            if now is None:
                raise Conflict(f"run {run_id}: particle {index} has a vignette in the archive, now none", hint=hint)
            # another encoder may have packed the same pixels differently
            if not np.array_equal(decode_image(old.vignette_png(index) or b""), decode_image(self._vignette(index))):
                raise Conflict(f"run {run_id}: the pixels of particle {index} are not those in the archive", hint=hint)

    def _vignette(self, index: int) -> bytes:
        with (self._partial / "vignettes.zip").open("rb") as file:
            file.seek(self._pixels["vignette_offset"][index])
            return file.read(self._pixels["vignette_length"][index])

    def _place(
        self, files: dict[str, str], head: dict[str, Any], old: ArchivedRun | None, zips: dict[str, tuple[str, int]]
    ) -> None:
        """A new folder is moved whole; into one that exists new files go under new names, then `run.json` changes."""
        entries: dict[str, dict[str, Any]] = {}
        for role, name in files.items():
            path = self._partial / name
            digest, size = zips.get(role) or (sha256_of(path), path.stat().st_size)
            entries[role] = {"name": name, "sha256": digest, "bytes": size}
        if old is None:
            for name in files.values():
                sync(self._partial / name)
            sync(self._partial / "features")
            write_text(self._partial / RUN_FILE, _text({**head, "files": entries}))
            if self._folder.exists():  # left by a kill before its commit
                _remove_tree(self._folder)
            self._partial.rename(self._folder)
            sync(self._folder.parent)
            return
        for role, entry in entries.items():
            known = old.facts["files"][role]
            if known["sha256"] == entry["sha256"]:
                entry["name"] = known["name"]
                continue
            source = self._partial / str(entry["name"])
            sync(source)
            entry["name"] = _free_name(self._folder, str(entry["name"]))
            (self._folder / entry["name"]).parent.mkdir(exist_ok=True)
            source.rename(self._folder / entry["name"])
            sync((self._folder / entry["name"]).parent)
        write_text(self._folder / RUN_FILE, _text({**head, "files": entries}))
        for path in self.leftovers(self._folder):
            path.unlink()

    @staticmethod
    def leftovers(folder: Path) -> list[Path]:
        """Files of earlier commits, or of killed ones, that `run.json` does not name; what was added later is none."""
        entries = read_run_file(folder)["files"].values()
        named = {folder / entry["name"] for entry in entries}
        roots = {re.sub(r"(~\d+)?(\.\w+)$", "", entry["name"]) for entry in entries}
        found = []
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            ours = re.sub(r"(~\d+)?(\.\w+)$", "", name) in roots
            if path.is_file() and path not in named and (ours or path.name.endswith(".partial")):
                found.append(path)
        return found


def _text(facts: dict[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False, sort_keys=True, indent=1) + "\n"


def _free_name(folder: Path, name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    number = 2
    while (folder / name).exists():
        name, number = f"{stem}~{number}{dot}{ending}", number + 1
    return name


def _remove_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    folder.rmdir()
