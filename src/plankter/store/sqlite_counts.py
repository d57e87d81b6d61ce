"""Class counts of the embedded catalogue, quick although others label at the same moment.

Python's threads share one lock. A question that SQLite answers row by row gives it up at each row and waits for it while
another thread computes: thousands of rows took ten times as long beside somebody who labels. So the counts of all runs
are one value, asked for by one statement, and what it says of a run is made into rows only where it changed.
"""

from __future__ import annotations

import json

from plankter.store.base import ClassCount
from plankter.store.count_rows import CountRows
from plankter.store.sqlite_connect import Database
from plankter.store.sqlite_rows import live_run, plain_rows

# a line a run; JSON writes a line feed within a text as \n
_COUNTS = """
SELECT group_concat(line, char(10)) FROM (
  SELECT '[' || json_quote(run_id) || ',' || json_group_array(class_id) || ',[' || group_concat(predicted) || '],['
    || group_concat(validated) || ']]' AS line
  FROM class_count {where} GROUP BY run_id)
"""
_ALL, _ONE = _COUNTS.format(where=""), _COUNTS.format(where="WHERE run_id = ?")


class CountReader:
    """Reads the counts of a database; safe for threads.

    Args:
        database: whose.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows = CountRows[str](json.loads)

    def counts(self, run_id: str | None) -> list[ClassCount]:
        """See `Catalogue.class_counts`."""
        if run_id is not None:
            with self._database.read() as connection:
                live_run(connection, run_id)
                ((said,),) = plain_rows(connection, _ONE, [run_id])
            return self._rows.one_run(said) if said else []
        ((said,),) = self._database.ask(_ALL)
        return self._rows.all_runs(said.split("\n") if said else [])
