"""The journal of labels: every fact once more, one line each, in a text file that only grows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from plankter._errors import StoreError
from plankter.store.encoding import annotation_object, annotation_of, json_text
from plankter.store.files import disk_full_said
from plankter.store.locks import Lock
from plankter.types import Annotation


class Journal:
    """``journal/annotations.jsonl`` in an archive; safe for any number of processes.

    Args:
        root: folder of the archive.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "journal" / "annotations.jsonl"
        self._lock = Lock(root / "journal" / "annotations.lock")

    def append(self, annotations: Iterable[Annotation]) -> int:
        """Appends facts, on the disk when it returns.

        Returns:
            The sequence number of the last line.

        Raises:
            StoreError: the disk is full; nothing was appended.
        """
        new = list(annotations)
        if not new:
            return self._last()[0]
        with self._lock.held():
            last, whole = self._last()
            data = _lines(new, last + 1).encode("utf-8")
            with disk_full_said(self.path), self.path.open("ab") as file:
                if whole < file.tell():
                    file.truncate(whole)  # the line that a kill cut short
                try:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self.path, whole)
                    raise
        return last + len(new)

    def _last(self) -> tuple[int, int]:
        """Sequence number of the last whole line, and where it ends in the file."""
        if not self.path.exists():
            return 0, 0
        size = self.path.stat().st_size
        span = 1 << 16
        while True:
            with self.path.open("rb") as file:
                file.seek(max(0, size - span))
                tail = file.read()
            end = tail.rfind(b"\n") + 1
            start = tail.rfind(b"\n", 0, end - 1) + 1 if end else 0
            if (end and start) or span >= size:
                break
            span *= 4
        whole = max(0, size - len(tail)) + end
        return (int(json.loads(tail[start:end])["seq"]) if end else 0), whole

    def entries(self) -> Iterator[tuple[int, Annotation]]:
        """Facts with their sequence numbers, in the order they were appended; a line cut short at the end is left out.

        Raises:
            StoreError: a line within is no fact.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for row, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    found = json.loads(line)
                    entry = int(found["seq"]), annotation_of(found)
                except (ValueError, KeyError, TypeError) as error:
                    raise StoreError(f"expected a label: {error}", path=self.path, row=row) from error
                yield entry

    def read(self) -> Iterator[Annotation]:
        """`entries` without the numbers."""
        return (fact for _, fact in self.entries())


def _lines(facts: Iterable[Annotation], first: int) -> str:
    """A line of JSON each, numbered from ``first``; what many facts share, as those of an import do, is written once."""
    known: dict[tuple[object, ...], list[str]] = {}
    lines = []
    for number, fact in enumerate(facts, start=first):
        shared = (
            fact.run_id, fact.class_id, fact.verdict, fact.annotator, fact.at, fact.source, fact.on_model_id,
            fact.on_class_id,
        )  # fmt: skip
        pieces = known.get(shared)
        if pieces is None:
            # no text within can look like this: its quotes are escaped
            whole = json_text({**annotation_object(fact), "index": None, "seq": None})
            pieces = known[shared] = re.split(r'(?<="index": )null|(?<="seq": )null', whole)
        lines.append(f"{pieces[0]}{fact.index}{pieces[1]}{number}{pieces[2]}\n")
    return "".join(lines)
