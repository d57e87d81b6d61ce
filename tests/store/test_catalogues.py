"""Both built-in catalogues keep the contract; what only the embedded one can get wrong is tested beside it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event, inspect

from plankter._errors import NewerWorkspace, NotFound, StoreError
from plankter.store import sqlite_check, sqlite_runs, sqlite_schema
from plankter.store.base import Catalogue, ParticleFilter
from plankter.store.locate import open_catalogue
from plankter.store.memory import MemoryCatalogue
from plankter.store.sqlite import SqliteCatalogue
from plankter.testing.catalogue import CatalogueContract
from plankter.testing.examples import example_fact, example_predictions, example_rows, example_run, run_id_of


class TestMemory(CatalogueContract):
    def make(self, folder: Path) -> Catalogue:
        return MemoryCatalogue()


class TestSqlite(CatalogueContract):
    def make(self, folder: Path) -> Catalogue:
        return SqliteCatalogue(folder / "deep" / "cat alogue #1?.sqlite")


def filled(path: Path) -> SqliteCatalogue:
    catalogue = SqliteCatalogue(path)
    catalogue.put_run(example_run(), example_rows(5))
    catalogue.put_predictions(example_predictions())
    catalogue.annotate([example_fact(), example_fact(index=1, class_id="detritus")])
    return catalogue


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for address in ("sqlite:one.sqlite", "two.sqlite", f"sqlite:{tmp_path / 'three.sqlite'}", "memory:"):
        catalogue = open_catalogue(address)
        assert catalogue.runs() == []
        catalogue.close()
    assert {p.name for p in tmp_path.glob("*.sqlite")} == {"one.sqlite", "two.sqlite", "three.sqlite"}
    open_catalogue("sqlite:four.sqlite", base=tmp_path / "sub").close()
    assert (tmp_path / "sub" / "four.sqlite").is_file()
    with pytest.raises(NotFound, match="memory, mongodb"):
        open_catalogue("nosuch://host/name")


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    catalogue = filled(tmp_path / "c.sqlite")
    rows, counts = catalogue.page(ParticleFilter()), catalogue.class_counts()
    catalogue.close()
    again = SqliteCatalogue(tmp_path / "c.sqlite")
    assert again.page(ParticleFilter()) == rows and again.class_counts() == counts
    assert again.run(run_id_of("a")).run == example_run()
    again.close()


def test_the_rules_of_the_file(tmp_path: Path) -> None:
    catalogue = filled(tmp_path / "c.sqlite")
    with catalogue.database.read() as connection:
        asked = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in (
            "journal_mode", "wal_autocheckpoint", "query_only", "mmap_size")}  # fmt: skip
    assert asked == {"journal_mode": "wal", "wal_autocheckpoint": 0, "query_only": 1, "mmap_size": 0}
    with catalogue.database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 0
    catalogue.close()


def test_the_write_ahead_log_is_kept_short(tmp_path: Path) -> None:
    catalogue = SqliteCatalogue(tmp_path / "c.sqlite")
    for turn in range(4):
        catalogue.put_run(example_run(str(turn)), example_rows(20_000))
    wal = (tmp_path / "c.sqlite-wal").stat().st_size
    assert wal < 12_000_000 < (tmp_path / "c.sqlite").stat().st_size
    catalogue.close()


def test_tables_and_migrations_agree(tmp_path: Path) -> None:
    catalogue = SqliteCatalogue(tmp_path / "c.sqlite")
    with catalogue.database.read() as connection:
        found = inspect(connection)
        assert set(found.get_table_names()) - {"sqlite_sequence"} == set(sqlite_schema.METADATA.tables)
        for name, table in sqlite_schema.METADATA.tables.items():
            columns = {
                column["name"]: str(column["type"]).replace("REAL", "FLOAT") for column in found.get_columns(name)
            }
            assert columns == {column.name: str(column.type) for column in table.columns}, name
            keys = found.get_pk_constraint(name)["constrained_columns"]
            assert keys == [column.name for column in table.primary_key], name
    catalogue.close()


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", ["index", "score"])
@pytest.mark.parametrize("kind", ["run", "run and class", "class", "all"])
def test_pages_of_the_gallery_are_read_off_an_index(tmp_path: Path, kind: str, sort: str, descending: bool) -> None:
    catalogue = filled(tmp_path / "c.sqlite")
    run_id = run_id_of("a") if "run" in kind else None
    predicted = catalogue.page(ParticleFilter())[0][0].predicted if "class" in kind else None
    said: list[str] = []
    raw = sqlite3.connect(tmp_path / "c.sqlite")

    def explain(_connection, _cursor, statement: str, parameters, _context, _many) -> None:
        if "particle" in statement:
            said.extend(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    event.listen(catalogue.database._reader, "before_cursor_execute", explain)
    where = ParticleFilter(run_id=run_id, predicted=predicted)
    rows, after = catalogue.page(where, sort=sort, descending=descending, limit=1)
    if after is not None:
        catalogue.page(where, sort=sort, descending=descending, after=after, limit=1)
    raw.close()
    catalogue.close()
    assert said and rows
    assert not [line for line in said if line.startswith("SCAN particle") and "INDEX" not in line], said
    assert not [line for line in said if "TEMP B-TREE" in line], said


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    filled(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(NewerWorkspace, match="schema version 99"):
        SqliteCatalogue(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database, but long enough to look like a file of something" * 20, None])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "c.sqlite"
    if content is None:
        with sqlite3.connect(path) as raw:
            raw.execute("CREATE TABLE cake (recipe TEXT)")
        raw.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a"):
        SqliteCatalogue(path)
    assert path.read_bytes() == before


def test_check_finds_what_was_changed_by_hand(tmp_path: Path) -> None:
    catalogue = filled(tmp_path / "c.sqlite")
    assert catalogue.check() == []
    for change, words in (
        ("UPDATE class_count SET validated = validated + 1", "counts"),
        ("UPDATE run SET predicted = 7", "predicted is 7"),
        ("UPDATE particle SET label = 'x' WHERE idx = 3", "particle 3"),
        ("DELETE FROM standing", "standing label"),
        ("DELETE FROM sample", "sample"),
    ):
        with pytest.raises(ZeroDivisionError), catalogue.database.write() as connection:
            connection.exec_driver_sql(change)
            assert any(words in problem for problem in sqlite_check.check(connection)), change
            raise ZeroDivisionError  # takes the change back
    assert catalogue.check() == []
    catalogue.close()


OPEN = """
import sys
from pathlib import Path
from plankter.store.sqlite import SqliteCatalogue
sys.stdin.readline()
c = SqliteCatalogue(Path(sys.argv[1])); c.put_meta(sys.argv[2], "x"); c.close()
"""


def test_processes_that_open_a_new_catalogue_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN, str(tmp_path / "c.sqlite")]
    workers = [
        subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for n in range(3)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        _, said = worker.communicate()
        assert worker.returncode == 0, said
    catalogue = SqliteCatalogue(tmp_path / "c.sqlite")
    assert [catalogue.get_meta(str(n)) for n in range(3)] == ["x"] * 3
    catalogue.close()


INGEST = """
import sys
from pathlib import Path
from plankter.store.sqlite import SqliteCatalogue
from plankter.testing.examples import example_rows, example_run
c = SqliteCatalogue(Path(sys.argv[1])); c.put_run(example_run("big"), example_rows(120_000)); c.close()
"""


def test_labels_are_given_while_another_process_ingests(tmp_path: Path) -> None:
    catalogue = filled(tmp_path / "c.sqlite")
    with subprocess.Popen([sys.executable, "-c", INGEST, str(tmp_path / "c.sqlite")], stderr=subprocess.PIPE) as worker:
        given = 0
        while worker.poll() is None:
            with catalogue.database.read() as connection:
                begun = connection.exec_driver_sql("SELECT count(*) FROM run WHERE state = 'ingesting'").scalar()
            if not begun:
                continue
            catalogue.annotate([example_fact(index=given % 5, seconds=given)])
            # still at work after the label is in: the label did not wait for the ingest
            given += worker.poll() is None
            assert (
                len(catalogue.runs()) in (1, 2) and len(catalogue.page(ParticleFilter(run_id=run_id_of("a")))[0]) == 5
            )
        assert worker.stderr is not None
        assert worker.returncode == 0, worker.stderr.read()
    assert given >= 3
    assert catalogue.run(run_id_of("big")).particles == 120_000
    assert catalogue.check() == []
    catalogue.close()


def test_labels_given_while_predictions_come_in_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = filled(tmp_path / "c.sqlite")
    monkeypatch.setattr(sqlite_runs, "CHUNK_ROWS", 2)
    original = catalogue.database.write
    turns: list[int] = []

    def write():
        turns.append(len(turns))
        if len(turns) == 4:  # two chunks are written aside
            monkeypatch.setattr(catalogue.database, "write", original)
            catalogue.annotate([example_fact(index=0, class_id="late"), example_fact(index=4, class_id="late")])
        return original()

    monkeypatch.setattr(catalogue.database, "write", write)
    catalogue.put_predictions(example_predictions(model_id="m2", seed=5))
    found = {row.index: row.label for row in catalogue.page(ParticleFilter())[0]}
    assert found[0] == found[4] == "late" and catalogue.run(run_id_of("a")).model_id == "m2"
    assert catalogue.check() == []
    catalogue.close()
