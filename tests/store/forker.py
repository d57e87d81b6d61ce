"""Does a store's work in a forked child, for tests that kill it: reads a task a line, prints the child's pid
and, after one more line, its exit status."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from small_runs import write

from plankter.store import maintenance
from plankter.store.archive import Archive
from plankter.store.journal import Journal
from plankter.store.sqlite import SqliteCatalogue
from plankter.testing.examples import example_fact, example_predictions, example_run, run_id_of

NAMES = ("a", "b", "c")
PARTICLES = 30


def ingest(folder: Path) -> None:
    archive, catalogue = Archive(folder / "archive"), SqliteCatalogue(folder / "catalogue.sqlite")
    archive.sweep()
    for name in NAMES:
        run_id = run_id_of(name)
        if not archive.has(run_id):
            write(archive, example_run(name), PARTICLES)
        if run_id not in {record.run.run_id for record in catalogue.runs()}:
            catalogue.put_run(archive.open(run_id).run, archive.open(run_id).rows())
        predictions = example_predictions(name, tuple(range(0, PARTICLES, 3)))
        if not archive.open(run_id).prediction_model_ids():
            archive.open(run_id).put_predictions(predictions)
        if catalogue.run(run_id).model_id is None:
            catalogue.put_predictions(predictions)
        fact = example_fact(name, 2)
        if fact not in {kept for _, kept in catalogue.annotations(run_id)}:
            catalogue.annotate([fact])
        maintenance.level(catalogue, Journal(archive.root))
    catalogue.close()


def rebuild(folder: Path) -> None:
    maintenance.rebuild_sqlite(Archive(folder / "archive"), folder / "catalogue.sqlite")


def main() -> None:
    while line := sys.stdin.readline():
        task, folder = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                {"ingest": ingest, "rebuild": rebuild}[task](Path(folder))
                status = 0
            finally:
                if status:
                    traceback.print_exc()
                os._exit(status)
        print(pid, flush=True)
        sys.stdin.readline()  # until then the pid is nobody else's
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
