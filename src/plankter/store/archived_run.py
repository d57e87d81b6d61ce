"""One run in the archive, to be read and to be added to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plankter._errors import NewerWorkspace, NotFound, StoreError
from plankter.store.base import ParticleRows
from plankter.store.encoding import run_of
from plankter.store.files import plain_name, sha256_of, write_whole
from plankter.store.locks import Lock
from plankter.store.parquet import (
    facts_of,
    feature_table,
    features_of,
    particles_of,
    prediction_table,
    predictions_of,
    read_table,
    write_table,
)
from plankter.types import NO_BOX, ImportedLabel, Particles, Predictions

RUN_FILE = "run.json"
RUN_FORMAT = 1
_ESD, _AREA = ("esd_um",), ("abd_area_um2", "area_um2")


def run_lock(folder: Path) -> Lock:
    """What whoever writes in a run's folder holds."""
    return Lock(folder.parent / ".locks" / f"{folder.name}.lock")


def read_run_file(folder: Path) -> dict[str, Any]:
    """The facts of a run's folder.

    Raises:
        StoreError: missing or damaged.
        NewerWorkspace: written by a later version.
    """
    path = folder / RUN_FILE
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        written = int(found["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"expected the facts of a run: {error}", path=path) from error
    if written > RUN_FORMAT:
        raise NewerWorkspace(
            f"the run has format {written}, this plankter knows {RUN_FORMAT}", path=path, hint="update plankter"
        )
    return found


class ArchivedRun:
    """A committed run; made by `Archive.open`.

    Args:
        folder: of the run.
        sample_id: sample it was attached to since, None where it was not.
    """

    def __init__(self, folder: Path, sample_id: str | None = None) -> None:
        self.folder = folder
        self.facts = read_run_file(folder)
        self.run = run_of(self.facts["run"], sample_id)
        self.fringe_px = float(self.facts["fringe_px"])

    def file(self, role: str) -> Path:
        """The file of a role: instrument, vignettes, masks, labels or features."""
        return self.folder / str(self.facts["files"][role]["name"])

    @cached_property
    def _table(self) -> pa.Table:
        return read_table(self.file("instrument"))

    def _numbers(self, name: str) -> npt.NDArray[np.int64]:
        return np.asarray(self._table[name].to_numpy(), np.int64)

    def __len__(self) -> int:
        return int(self.facts["counts"]["particles"])

    # -- what was ingested
    def particles(self) -> Particles:
        """The particles, in the order of the instrument's list."""
        return particles_of(self._table)

    def labels(self) -> tuple[ImportedLabel, ...]:
        """The classes given in the instrument's software."""
        found = json.loads(self.file("labels").read_text(encoding="utf-8"))
        return tuple(ImportedLabel(*entry) for entry in found)

    def rows(self) -> ParticleRows:
        """What the catalogue keeps of each particle: size from the vignette, else the box; measures where known."""
        table = self._table
        size = {}
        for name, side in (("width", "box_w"), ("height", "box_h")):
            box, pixels = self._numbers(side), self._numbers(f"vignette_{name}_px")
            size[name] = np.where(pixels > 0, pixels, np.where(box == NO_BOX, 0, box)).astype(np.int32)
        columns, values = features_of(read_table(self.file("features")))

        def measure(names: tuple[str, ...]) -> npt.NDArray[np.float32]:
            for name in names:
                if name in columns:
                    return values[:, columns.index(name)]
            return np.full(len(self), np.nan, np.float32)

        return ParticleRows(
            size["width"], size["height"], measure(_ESD), measure(_AREA), self._numbers("vignette_offset") >= 0,
            self._numbers("mask_offset") >= 0, tuple(table["failure"].to_pylist()),
        )  # fmt: skip

    # -- pixels
    def vignette_png(self, index: int) -> bytes | None:
        """One vignette as PNG, None where there is none."""
        return self._png("vignette", index)

    def mask_png(self, index: int) -> bytes | None:
        """One mask as PNG, None where there is none."""
        return self._png("mask", index)

    def _png(self, kind: str, index: int) -> bytes | None:
        if not 0 <= index < len(self):
            raise NotFound(f"run {self.run.run_id} has no particle {index}; it has {len(self)}")
        offset, length = (int(self._numbers(f"{kind}_{what}")[index]) for what in ("offset", "length"))
        if offset < 0:
            return None
        with self.file(f"{kind}s").open("rb") as file:
            return _read_at(file.fileno(), offset, length, self.file(f"{kind}s"))

    def vignette_index(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Particles that have a vignette, and offset and length of each in `vignettes.zip`."""
        offsets = self._numbers("vignette_offset")
        there = np.flatnonzero(offsets >= 0).astype(np.int64)
        return there, offsets[there], self._numbers("vignette_length")[there]

    def read_vignettes(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
        """Vignettes as PNG by rising index; particles without one are left out."""
        offsets, lengths = self._numbers("vignette_offset"), self._numbers("vignette_length")
        path = self.file("vignettes")
        with path.open("rb") as file:
            for index in sorted(int(i) for i in indices):
                if not 0 <= index < len(offsets):
                    raise NotFound(f"run {self.run.run_id} has no particle {index}; it has {len(offsets)}")
                if offsets[index] >= 0:
                    yield index, _read_at(file.fileno(), int(offsets[index]), int(lengths[index]), path)

    def vignette_sha256(self) -> list[str | None]:
        """SHA-256 of each vignette's PNG."""
        return list(self._table["sha256"].to_pylist())

    # -- what is added later; each a file written once
    def _later(self, folder: str) -> list[tuple[int, Path, dict[str, Any]]]:
        """Tables of a folder by the order they were written in, without those of a commit."""
        found = []
        for path in sorted((self.folder / folder).glob("[!.]*.parquet")):
            facts = facts_of(path)
            if "sequence" in facts:
                found.append((int(facts["sequence"]), path, facts))
        return sorted(found, key=lambda entry: entry[:2])

    def _add(self, table: pa.Table, folder: str, name: str, facts: dict[str, Any]) -> None:
        path = self.folder / folder / f"{name}.parquet"
        with run_lock(self.folder).held():
            sequence = 1 + max((number for number, _, _ in self._later(folder)), default=0)
            write_whole(path, lambda partial: write_table(table, partial, {**facts, "sequence": sequence}))

    def put_features(self, name: str, version: str, columns: Sequence[str], values: npt.NDArray[np.float32]) -> None:
        """Adds a feature set, (n, k) in the order of the list."""
        self._check_rows(values)
        file = f"{plain_name(name)}-{plain_name(version)}"
        if {"name": name, "version": version} == facts_of(self.file("features")):
            raise StoreError(f"features {name} {version} are in the archive already", path=self.file("features"))
        self._add(feature_table(columns, values), "features", file, {"name": name, "version": version})

    def features(self, set_name: str) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        """Columns and float32 (n, k) values of a feature set's newest version.

        Raises:
            NotFound: no such set.
        """
        paths = [path for _, path, facts in self._later("features") if facts["name"] == set_name]
        if not paths and facts_of(self.file("features"))["name"] == set_name:
            paths = [self.file("features")]
        if not paths:
            raise NotFound(f"run {self.run.run_id} has no features {set_name!r}")
        return features_of(read_table(paths[-1]))

    def put_embeddings(self, backbone_hash: str, values: npt.NDArray[Any]) -> None:
        """Keeps (n, dim) embeddings as float16, a NaN row for a particle without one."""
        self._check_rows(values)
        path = self.folder / "embeddings" / f"{plain_name(backbone_hash)}.npy"

        def write(partial: Path) -> None:
            with partial.open("wb") as file:
                np.save(file, np.asarray(values, np.float16), allow_pickle=False)

        with run_lock(self.folder).held():
            write_whole(path, write)

    def embeddings(self, backbone_hash: str) -> npt.NDArray[np.float16]:
        """Embeddings of a backbone, float16 (n, dim).

        Raises:
            NotFound: not computed yet.
            StoreError: damaged.
        """
        path = self.folder / "embeddings" / f"{plain_name(backbone_hash)}.npy"
        try:
            found: npt.NDArray[np.float16] = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise NotFound(f"run {self.run.run_id} has no embeddings of backbone {backbone_hash}") from None
        except (ValueError, EOFError, OSError) as error:
            raise StoreError(f"expected embeddings: {error}", path=path, hint="delete it and classify again") from error
        return found

    def put_predictions(self, predictions: Predictions) -> None:
        """Keeps a model's predictions; those of the same model are replaced."""
        facts = {name: getattr(predictions, name) for name in ("model_id", "run_id", "precision", "class_ids")}
        self._add(prediction_table(predictions), "predictions", plain_name(predictions.model_id), facts)

    def predictions(self, model_id: str) -> Predictions:
        """A model's predictions.

        Raises:
            NotFound: the model has not seen this run.
        """
        path = self.folder / "predictions" / f"{plain_name(model_id)}.parquet"
        if not path.exists():
            raise NotFound(f"run {self.run.run_id} has no predictions of model {model_id}")
        return predictions_of(read_table(path), facts_of(path))

    def prediction_model_ids(self) -> list[str]:
        """Models that have seen this run, the newest last."""
        return [str(facts["model_id"]) for _, _, facts in self._later("predictions")]

    def _check_rows(self, values: npt.NDArray[Any]) -> None:
        if values.ndim != 2 or len(values) != len(self):
            raise StoreError(f"expected {len(self)} rows, one a particle, got shape {values.shape}")

    def problems(self, *, deep: bool) -> list[str]:
        """Files that are missing, of another size or (``deep``) of another SHA-256 than when they were written."""
        found = []
        for entry in self.facts["files"].values():
            path = self.folder / entry["name"]
            where = f"run {self.run.run_id}: {entry['name']}"
            if not path.exists():
                found.append(f"{where} is missing")
            elif path.stat().st_size != entry["bytes"]:
                found.append(f"{where} has {path.stat().st_size} bytes, {entry['bytes']} were written")
            elif deep and sha256_of(path) != entry["sha256"]:
                found.append(f"{where} is damaged: its SHA-256 is not what was written")
        return found + (self._later_problems() if deep else [])

    def _later_problems(self) -> list[str]:
        found = []
        for path in sorted(
            [*self.folder.glob("predictions/[!.]*.parquet"), *self.folder.glob("features/[!.]*.parquet")]
        ):
            try:
                read_table(path, verify=True)
            except StoreError as error:
                found.append(f"run {self.run.run_id}: {path.relative_to(self.folder).as_posix()} {error.message}")
        for path in sorted(self.folder.glob("embeddings/[!.]*.npy")):
            try:
                rows = len(self.embeddings(path.stem))
            except StoreError as error:
                found.append(f"run {self.run.run_id}: embeddings/{path.name}: {error.message}")
                continue
            if rows != len(self):
                found.append(f"run {self.run.run_id}: embeddings/{path.name} has {rows} rows, expected {len(self)}")
        return found


def _read_at(descriptor: int, offset: int, length: int, path: Path) -> bytes:
    if hasattr(os, "pread"):
        data = os.pread(descriptor, length, offset)
    else:
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, length)
    if len(data) != length:
        raise StoreError(
            f"ends before byte {offset + length}", path=path, hint="`plankter check --deep` lists the damage"
        )
    return data
