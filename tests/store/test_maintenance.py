"""Catalogue and archive compared, rebuilt, saved and brought back."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plankter._errors import Conflict, NewerWorkspace, StoreError
from plankter._settings import FILE_NAME, settings_text
from plankter.store import maintenance
from plankter.store.archive import Archive
from plankter.store.base import ParticleFilter
from plankter.store.journal import Journal
from plankter.store.memory import MemoryCatalogue
from plankter.store.sqlite import SqliteCatalogue
from plankter.testing.examples import example_fact, example_predictions, example_rows, example_run, run_id_of
from plankter.types import Sample, Source, Taxon

A, B = run_id_of("a"), run_id_of("b")
TAXA = [Taxon("Copepoda", "Copepoda", 1080), Taxon("detritus", "detritus", kind="non-living")]


def contents(catalogue: SqliteCatalogue | MemoryCatalogue) -> dict[str, object]:
    return {
        "runs": [(r.run, r.particles, r.vignettes, r.predicted, r.validated, r.model_id) for r in catalogue.runs()],
        "samples": catalogue.samples(),
        "rows": catalogue.page(ParticleFilter(), limit=1000)[0],
        "facts": [fact for _, fact in catalogue.annotations()],
        "counts": catalogue.class_counts(),
    }


@pytest.fixture
def workspace(tmp_path: Path, write_run: Callable[..., None]) -> Iterator[tuple[Path, SqliteCatalogue, Archive]]:
    """A workspace with two runs, predictions, labels, a class of its own and a model."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / FILE_NAME).write_text(settings_text("sqlite:catalogue.sqlite"), encoding="utf-8")
    (folder / "models" / "m1").mkdir(parents=True)
    (folder / "models" / "m1" / "model.json").write_text("{}")
    archive, catalogue = Archive(folder / "archive"), SqliteCatalogue(folder / "catalogue.sqlite")
    catalogue.put_taxa(TAXA)
    for name in "ab":
        write_run(archive, name)
        archived = archive.open(run_id_of(name))
        catalogue.put_run(archived.run, archived.rows())
        for model_id, seed in (("m0", 0), ("m1", 1)):
            predictions = example_predictions(name, (0, 1, 2, 7), model_id=model_id, seed=seed)
            archived.put_predictions(predictions)
            catalogue.put_predictions(predictions)
    sample = Sample("station 1", latitude_deg=51.5)
    catalogue.put_sample(sample)
    archive.put_sample(sample)
    catalogue.put_taxa([Taxon("mine", "My class", kind="unknown")])
    catalogue.put_model("m1", "first", {"top1": 0.5})
    facts = [example_fact("a", 0), example_fact("b", 3, "mine"), example_fact("a", 0, "detritus", seconds=1)]
    catalogue.annotate(facts)
    Journal(archive.root).append(facts)
    yield folder, catalogue, archive
    catalogue.close()


Made = tuple[Path, SqliteCatalogue, Archive]


# -- check
def test_nothing_is_wrong_with_a_sound_workspace(workspace: Made) -> None:
    _, catalogue, archive = workspace
    assert maintenance.check(catalogue, archive, deep=True) == []


def test_check_names_every_difference(workspace: Made, write_run: Callable[..., None]) -> None:
    _, catalogue, archive = workspace
    write_run(archive, "only archived")
    catalogue.put_run(example_run("only catalogued"), example_rows(3))
    catalogue.annotate([example_fact("a", 5)])
    Journal(archive.root).append([example_fact("b", 6), example_fact("unknown run", 0)])
    archive.attach(B, "elsewhere")
    (archive.root / A / "masks.zip").unlink()
    found = maintenance.check(catalogue, archive)
    for words in (
        f"{run_id_of('only archived')} is in the archive, but not in the catalogue",
        f"{run_id_of('only catalogued')} is in the catalogue, but not in the archive",
        "1 labels of the catalogue are missing in the journal",
        "1 labels of the journal are missing in the catalogue",
        f"{B}: its sample is",
        f"{A}: masks.zip is missing",
    ):
        assert any(words in line for line in found), words
    assert len(found) == 6


def test_check_compares_counts(workspace: Made) -> None:
    _, catalogue, archive = workspace
    catalogue.remove_run(A)
    catalogue.put_run(example_run(), example_rows(11))
    assert any("particles is 11 in the catalogue, 12" in line for line in maintenance.check(catalogue, archive))


def test_level_appends_what_the_journal_lacks(workspace: Made) -> None:
    _, catalogue, archive = workspace
    catalogue.annotate([example_fact("a", 9), example_fact("a", 8)])
    journal = Journal(archive.root)
    assert maintenance.level(catalogue, journal) == 2 and maintenance.level(catalogue, journal) == 0
    assert list(journal.read()) == [fact for _, fact in catalogue.annotations()]


# -- rebuild
def test_rebuild_fills_an_empty_catalogue_and_may_be_repeated(workspace: Made, tmp_path: Path) -> None:
    _, catalogue, archive = workspace
    for other in (MemoryCatalogue(), SqliteCatalogue(tmp_path / "other.sqlite")):
        for _ in range(2):
            assert maintenance.rebuild(archive, other, taxa=TAXA) == 2
            assert contents(other) == contents(catalogue)
            assert other.check() == []
        assert other.taxa() == [*TAXA, Taxon("mine", "mine", kind="unknown")]
        other.close()


def test_rebuild_keeps_what_only_the_old_catalogue_knew(workspace: Made) -> None:
    folder, catalogue, archive = workspace
    catalogue.put_meta("colour", "red")
    catalogue.annotate([example_fact("a", 5)])  # a kill came before the journal
    before, models, taxa = contents(catalogue), catalogue.models(), catalogue.taxa()
    assert maintenance.rebuild_sqlite(archive, folder / "catalogue.sqlite") == 2
    # the connection that was open all the time sees the new content
    assert contents(catalogue) == before
    assert (catalogue.models(), catalogue.taxa(), catalogue.get_meta("colour")) == (models, taxa, "red")
    assert maintenance.check(catalogue, archive, deep=True) == []
    assert {p.name for p in folder.iterdir() if "rebuild" in p.name or "damaged" in p.name} == set()
    assert catalogue.annotate([example_fact("a", 6)]) == 5


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "inside"])
def test_rebuild_replaces_a_damaged_catalogue(workspace: Made, damage: str) -> None:
    folder, catalogue, archive = workspace
    before = contents(catalogue)
    path = folder / "catalogue.sqlite"
    catalogue.close()
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "inside":
        path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    else:
        path.write_bytes({"text": b"no database at all, but quite long " * 50, "cut": data[:5000]}[damage])
    assert maintenance.rebuild_sqlite(archive, path, taxa=TAXA) == 2
    fresh = SqliteCatalogue(path)
    assert contents(fresh) == before
    assert maintenance.check(fresh, archive) == []
    fresh.close()
    assert (folder / "catalogue.sqlite.damaged").exists() == (damage != "missing")


def test_rebuild_leaves_out_what_is_no_longer_there(workspace: Made) -> None:
    folder, catalogue, archive = workspace
    catalogue.remove_run(B)
    archive.remove(B)
    maintenance.rebuild_sqlite(archive, folder / "catalogue.sqlite")
    assert [r.run.run_id for r in catalogue.runs()] == [A]
    assert maintenance.check(catalogue, archive) == []


def test_the_labels_of_an_instrument_stand_once_after_a_rebuild(workspace: Made) -> None:
    folder, catalogue, archive = workspace
    imported = example_fact("a", 4, source=Source.IMPORT)
    catalogue.annotate([imported])
    Journal(archive.root).append([imported, imported])
    maintenance.rebuild_sqlite(archive, folder / "catalogue.sqlite")
    assert [fact for _, fact in catalogue.annotations(A)].count(imported) == 1


def test_rebuild_of_a_newer_catalogue_changes_nothing(workspace: Made) -> None:
    folder, catalogue, archive = workspace
    with catalogue.database.write() as connection:
        connection.exec_driver_sql("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    catalogue.close()
    before = (folder / "catalogue.sqlite").read_bytes()
    with pytest.raises(NewerWorkspace):
        maintenance.rebuild_sqlite(archive, folder / "catalogue.sqlite")
    assert (folder / "catalogue.sqlite").read_bytes() == before


# -- backup and restore
def test_a_backup_comes_back_whole(workspace: Made, tmp_path: Path) -> None:
    folder, catalogue, archive = workspace
    zipped, to = tmp_path / "b.zip", tmp_path / "new" / "place"
    maintenance.backup(folder, zipped)
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name or p.name.startswith(".")] == []
    maintenance.restore(zipped, to)
    again = SqliteCatalogue(to / "catalogue.sqlite")
    assert contents(again) == contents(catalogue) and again.models() == catalogue.models()
    assert maintenance.check(again, Archive(to / "archive"), deep=True) == []
    again.close()
    assert (to / "models" / "m1" / "model.json").read_text() == "{}"
    for path in archive.root.rglob("*"):
        if path.is_file() and not path.name.endswith((".lock", ".turn")):
            assert (to / path.relative_to(folder)).read_bytes() == path.read_bytes()
    with pytest.raises(Conflict):
        maintenance.restore(zipped, to)


def test_a_damaged_backup_is_refused_and_leaves_nothing(workspace: Made, tmp_path: Path) -> None:
    folder, _, _ = workspace
    zipped, to = tmp_path / "b.zip", tmp_path / "new"
    maintenance.backup(folder, zipped)
    data = zipped.read_bytes()
    for damaged in (data[: len(data) // 2], b"PK no zip", data.replace(b"\x89PNG", b"\x88PNG")):
        zipped.write_bytes(damaged)
        with pytest.raises(StoreError):
            maintenance.restore(zipped, to)
        assert not to.exists() and not [p for p in tmp_path.iterdir() if "partial" in p.name]
    with pytest.raises(StoreError):
        maintenance.restore(tmp_path / "nothing.zip", to)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:evil", "a\\..\\evil"])
def test_a_backup_that_reaches_outside_is_refused(tmp_path: Path, name: str) -> None:
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of "x"
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as packed:
        packed.writestr(name, "x")
        packed.writestr("backup.json", json.dumps({"format": 1, "files": {name: {"sha256": digest, "bytes": 1}}}))
    with pytest.raises(StoreError, match="outside"):
        maintenance.restore(tmp_path / "b.zip", tmp_path / "in" / "new")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    "files", [{"a": {"sha256": "0", "bytes": 1}}, {"a": {"sha256": "0" * 64, "bytes": 5}}, {}, {"a": 3}],
    ids=["digest", "size", "not listed", "nonsense"],
)  # fmt: skip
def test_a_backup_whose_list_is_wrong_is_refused(tmp_path: Path, files: dict) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", "x" * 100_000)
        packed.writestr("backup.json", json.dumps({"format": 1, "files": files}))
    with pytest.raises(StoreError):
        maintenance.restore(tmp_path / "b.zip", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_backup_of_a_later_version(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as packed:
        packed.writestr("backup.json", json.dumps({"format": 2, "files": {}}))
    with pytest.raises(NewerWorkspace):
        maintenance.restore(tmp_path / "b.zip", tmp_path / "new")


def test_only_what_lies_in_the_workspace_is_saved(tmp_path: Path) -> None:
    for catalogue in ("memory:", "sqlite:../other.sqlite"):
        (tmp_path / FILE_NAME).write_text(settings_text(catalogue), encoding="utf-8")
        with pytest.raises(StoreError, match="only what lies in the workspace"):
            maintenance.backup(tmp_path, tmp_path / "b.zip")
