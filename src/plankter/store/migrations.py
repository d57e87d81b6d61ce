"""The embedded catalogue's schema, step by step; a step that was ever released never changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection

from plankter._errors import NewerWorkspace, StoreError

Step = Callable[[Connection], None]
STEPS: list[tuple[str, Step]] = []


def migration(name: str) -> Callable[[Step], Step]:
    """Registers a step; steps run in the order they stand here, each once, and are recorded by name."""

    def register(step: Step) -> Step:
        STEPS.append((name, step))
        return step

    return register


_FIRST = """
CREATE TABLE sample (sample_id TEXT PRIMARY KEY, facts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE taxon (class_id TEXT PRIMARY KEY, position INTEGER NOT NULL, facts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE model (model_id TEXT PRIMARY KEY, name TEXT NOT NULL, facts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE run (
  run_key INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, state TEXT NOT NULL, sample_id TEXT, name TEXT,
  facts TEXT, particles INTEGER, vignettes INTEGER, masks INTEGER, failures INTEGER, predicted INTEGER,
  validated INTEGER, model_id TEXT, ingested_at TEXT);
CREATE UNIQUE INDEX run_done ON run (run_id) WHERE state = 'done';
CREATE TABLE particle (
  run_key INTEGER NOT NULL, idx INTEGER NOT NULL, run_id TEXT NOT NULL, width_px INTEGER NOT NULL,
  height_px INTEGER NOT NULL, esd_um REAL, area_um2 REAL, has_vignette INTEGER NOT NULL, has_mask INTEGER NOT NULL,
  failure TEXT, predicted TEXT, score REAL, label TEXT, status TEXT NOT NULL,
  PRIMARY KEY (run_key, idx)) WITHOUT ROWID;
CREATE INDEX particle_run_predicted ON particle (run_key, predicted, score, run_id, idx);
CREATE INDEX particle_run_score ON particle (run_key, score, run_id, idx);
CREATE INDEX particle_predicted ON particle (predicted, score, run_id, idx);
CREATE INDEX particle_label ON particle (label, run_key, idx) WHERE label IS NOT NULL;
CREATE TABLE annotation (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, idx INTEGER NOT NULL, class_id TEXT,
  verdict TEXT NOT NULL, annotator TEXT NOT NULL, at TEXT NOT NULL, source TEXT NOT NULL, on_model_id TEXT,
  on_class_id TEXT);
CREATE INDEX annotation_particle ON annotation (run_id, idx, seq);
CREATE TABLE standing (
  run_id TEXT NOT NULL, idx INTEGER NOT NULL, class_id TEXT, verdict TEXT NOT NULL, annotator TEXT NOT NULL,
  at TEXT NOT NULL, source TEXT NOT NULL, PRIMARY KEY (run_id, idx)) WITHOUT ROWID;
CREATE TABLE class_count (
  run_id TEXT NOT NULL, class_id TEXT NOT NULL, predicted INTEGER NOT NULL, validated INTEGER NOT NULL,
  PRIMARY KEY (run_id, class_id)) WITHOUT ROWID
"""


@migration("0001-first")
def _first(connection: Connection) -> None:
    for statement in _FIRST.split(";"):
        connection.exec_driver_sql(statement)


@migration("0002-score-over-all-runs")
def _score_over_all_runs(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE INDEX particle_score ON particle (score, run_id, idx)")


def schema_version(connection: Connection) -> int:
    """How many steps the database has taken; 0 where it is new.

    Raises:
        NewerWorkspace: more than this version of plankter knows.
        StoreError: a database of something else.
    """
    tables = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return 0
    if not {"meta", "migration"} <= tables:
        raise StoreError("the database is not a plankter catalogue", hint="name another file")
    written = connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'schema_version'").scalar()
    version = int(str(written)) if re.fullmatch(r"[0-9]{1,9}", str(written)) else 0
    if version > len(STEPS):
        raise NewerWorkspace(
            f"the catalogue has schema version {version}, this plankter knows {len(STEPS)}",
            hint="update plankter; nothing was changed",
        )
    return version


def migrate(connection: Connection) -> list[str]:
    """Takes the missing steps within the transaction of ``connection``.

    Returns:
        Their names.
    """
    schema_version(connection)
    connection.exec_driver_sql(
        "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
    )
    connection.exec_driver_sql(
        "CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL) WITHOUT ROWID"
    )
    taken = {row[0] for row in connection.exec_driver_sql("SELECT name FROM migration")}
    missing = [(name, step) for name, step in STEPS if name not in taken]
    for name, step in missing:
        step(connection)
        connection.exec_driver_sql("INSERT INTO migration VALUES (?, ?)", (name, datetime.now(UTC).isoformat()))
    connection.exec_driver_sql(
        "INSERT INTO meta VALUES ('schema_version', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (str(len(STEPS)),),
    )
    return [name for name, _ in missing]
