"""Looks at the documents of a connected source: at all of them, or at those that are new or changed.

A field that tells a change does not tell all: documents come in with an old date, clocks of those who write differ, and
one that runs ahead would hide what comes later. So beside what that field and the order of ``_id`` say, each document's
value of the field is kept, and compared where the number of documents changed for no known reason, and once a day.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from plankter.formats.mapped_values import value_at
from plankter.store.mongodb_connect import Document
from plankter.store.source_database import id_of, id_text, json_of, made_at, stamp_of, value_of
from plankter.workflow.connect_runs import Connected
from plankter.workflow.progress import Progress

IMAGE_CHANGED = "the image changed since it was read; remove the run to read it anew"
GONE = "the document left the source; its particle stays"
HOUR_S = 3600.0
_NUMBERS = ("double", "int", "long", "decimal")
# all that a field can hold but dates, texts and numbers; `array` would have the server walk the whole index
_OTHERS = ("object", "binData", "objectId", "bool", "regex", "javascript", "timestamp", "minKey", "maxKey")
_KINDS = {"number": _NUMBERS, "string": ("string",), "date": ("date",)}


def look(work: Connected, whole: bool, progress: Progress) -> Counter[str]:
    """Light looks at all documents, or at those that are new or changed since the last pass."""
    ledger, source = work.ledger, work.source.mapping.source
    held = ledger.get("changed")
    mark = value_of(held)["v"] if held else None
    began = work.source.now()
    if isinstance(mark, datetime) and mark > began:  # of an earlier version: a clock that ran ahead
        mark = None
        ledger.put("newest", None)
    if source.changed and not whole and mark is not None and ledger.get("scan_after") is None:
        looked = _look_at_changed(work, source.changed, mark, began, progress)
        ledger.put("changed", ledger.get("newest"))
        return looked
    return _look_at_all(work, progress)


def _look_at_all(work: Connected, progress: Progress) -> Counter[str]:
    ledger, looked = work.ledger, Counter[str]()
    after = ledger.get("scan_after")
    if after is None:  # not going on with a pass that was cut short
        _begin(work)
        ledger.put("newest", None)
    turn = int(ledger.get("pass") or 1)
    began = datetime.fromisoformat(ledger.get("began") or work.source.now().isoformat())
    for batch in work.source.scan({}, "_id", after=id_of(after) if after else None):
        take(work, batch, turn, looked, ("scan_after", id_text(batch[-1]["_id"])), began=began)
        progress("looked at", looked["documents"], None)
    ledger.put("scan_after", None)
    _end(work, turn)
    if work.source.mapping.source.changed:
        ledger.put("changed", ledger.get("newest"))
    return looked


def take(
    work: Connected, batch: list[Document], turn: int, looked: Counter[str], remember: tuple[str, str] | None = None, *,
    began: datetime | None = None,
) -> None:  # fmt: skip
    """Notes in the ledger what a batch of light documents tells.

    Args:
        work: the source.
        batch: documents.
        turn: number of this pass over the source.
        looked: counts that go on.
        remember: a value that the ledger puts down in the same transaction.
        began: when the pass began, by the server's clock; later dates are not taken for the newest, as a document that
            was looked at earlier may have changed before them.
    """
    found = work.ledger.look(work.source.look(batch), turn, remember)
    looked.update(documents=len(batch), new=found.new, unchanged=found.unchanged, changed=found.changed)
    for key in found.image_changed or ():
        work.problems.add(IMAGE_CHANGED, key)
    changed = work.source.mapping.source.changed
    if changed and began is not None:
        found_there = (value_at(document, changed) for document in batch)
        values = [v for v in found_there if isinstance(v, datetime | int | float) or type(v) is str]
        _remember_newest(work, [v for v in values if not (isinstance(v, datetime) and v > began)])
        _remember_top(work, [document["_id"] for document in batch], began)


def _remember_newest(work: Connected, values: list[Any]) -> None:
    """The greatest value of the field that tells a change, of the kind that most documents have."""
    held = work.ledger.get("newest")
    newest: Any = value_of(held)["v"] if held else None
    kinds = Counter(map(_bson_type, values))
    kind = _bson_type(newest) if newest is not None else kinds.most_common(1)[0][0] if kinds else None
    same: list[Any] = [value for value in values if _bson_type(value) == kind]
    if same and (newest is None or max(same) > newest):
        work.ledger.put("newest", json_of({"v": max(same)}))


def _remember_top(work: Connected, ids: Sequence[Any], began: datetime) -> None:
    """The greatest ``_id`` of the kinds that grow; those of a clock that runs ahead are left out."""
    held = work.ledger.get("top")
    tops: dict[str, Any] = {key: id_of(text) for key, text in json.loads(held).items()} if held else {}
    for identity in ids:
        made = made_at(identity)
        number = isinstance(identity, int) and not isinstance(identity, bool)
        kind = "number" if number else "object" if made is not None and made <= began else None
        if kind and (kind not in tops or identity > tops[kind]):
            tops[kind] = identity
    said = json.dumps({key: id_text(value) for key, value in tops.items()})
    if said != held:
        work.ledger.put("top", said)


def _bson_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "string" if isinstance(value, str) else "date"


# -- by the field that tells a change
def _look_at_changed(work: Connected, changed: str, mark: Any, began: datetime, progress: Progress) -> Counter[str]:
    looked = Counter[str]()
    turn = int(work.ledger.get("pass") or 1)
    there = work.source.count()
    for batch in work.source.scan(_since(work, changed, mark), "", only=[changed]):
        _take_different(work, batch, changed, mark, began, turn, looked)
        progress("looked at", looked["documents"], None)
    if _must_compare(work, there):
        _compare(work, changed, began, looked, progress)
    return looked


def _since(work: Connected, changed: str, mark: Any) -> Document:
    """Documents that can be new or changed; each part is read off an index of that field or of ``_id``."""
    kind = _bson_type(mark)
    least = mark
    if isinstance(mark, datetime):  # clocks of those who write differ
        early = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
        least = max(mark, early) - timedelta(seconds=min(work.source.mapping.source.skew_s, 86_400))
    # other kinds of values compare with nothing, so that those documents are always looked at
    others = [name for other, names in _KINDS.items() if other != kind for name in names]
    tops = json.loads(work.ledger.get("top") or "{}").values()
    return {"$or": [
        {changed: {"$gte": least}}, {changed: {"$type": [*others, *_OTHERS]}}, {changed: None}, {changed: []},
        *({"_id": {"$gt": id_of(top)}} for top in tops),
    ]}  # fmt: skip


def _take_different(
    work: Connected, batch: list[Document], changed: str, mark: Any, began: datetime, turn: int, looked: Counter[str]
) -> None:
    """Looks at those of a batch, of ``_id`` and that one field, that are not as they were, or may not be."""
    values = [(document["_id"], value_at(document, changed)) for document in batch]
    same = work.ledger.same([(id_text(identity), stamp_of(value)) for identity, value in values])
    # at the newest date another change may still come, and what cannot be compared may have changed
    sure = {
        id_text(identity)
        for identity, value in values
        if mark is not None
        and isinstance(value, datetime | int | float | str)
        and _bson_type(value) == _bson_type(mark)
        and value < mark
    }
    level = same if mark is None else same & sure
    ids = [identity for identity, _ in values if id_text(identity) not in level]
    documents = list(work.source.get(ids, filtered=True).values()) if ids else []
    if documents:
        take(work, documents, turn, looked, began=began)


def _unsure(value: Any, mark: Any) -> bool:
    """At the newest date another change may still come, and what cannot be compared may have changed."""
    plain = isinstance(value, datetime | int | float | str) and _bson_type(value) == _bson_type(mark)
    return not plain or bool(value >= mark)


# -- by comparing all
def _begin(work: Connected) -> None:
    """Notes when a pass over all documents begins and how many there are then."""
    work.ledger.put("pass", str(int(work.ledger.get("pass") or 0) + 1))
    work.ledger.put("began", work.source.now().isoformat())
    if work.source.mapping.source.changed:
        work.ledger.put("there", str(work.source.count()))


def _end(work: Connected, turn: int) -> None:
    """All documents were seen: those that were not are gone."""
    gone = work.ledger.not_seen(turn)
    if gone:
        work.problems.add(GONE, f"{gone} documents", count=gone)
    before = work.ledger.get("there")
    if before is not None:
        seen = work.ledger.seen(turn)
        least, most = int(before) - seen, work.source.count() - seen  # others write while a pass goes on
        # a server that was cut off, or has parts elsewhere, can be wrong by so many for long
        more = 0 if least <= 0 <= most else least if least > 0 else most
        work.ledger.put("compared", json.dumps({"at": time.time(), "more": more}))


def _must_compare(work: Connected, there: int) -> bool:
    """True once in a while, and where more or fewer documents are in the source than known.

    Args:
        work: the source.
        there: how many there were before those were looked at that say of themselves that they are new.
    """
    held = work.ledger.get("compared")
    if held is None or work.ledger.get("compare_after") is not None:
        return True
    last = json.loads(held)
    hours = (time.time() - last["at"]) / HOUR_S
    if not 0 <= hours < work.source.mapping.source.compare_h:
        return True
    seen, more = work.ledger.seen(int(work.ledger.get("pass") or 1)), last["more"]
    return bool(there - seen > more or (there - seen < more and work.source.count() - seen < more))


def _compare(work: Connected, changed: str, began: datetime, looked: Counter[str], progress: Progress) -> None:
    """Every ``_id`` and its value of the one field against what is known; only what differs is looked at."""
    ledger = work.ledger
    after = ledger.get("compare_after")
    if after is None:
        _begin(work)
    turn = int(ledger.get("pass") or 1)
    for batch in work.source.scan({}, "_id", after=id_of(after) if after else None, only=[changed]):
        _take_different(work, batch, changed, None, began, turn, looked)
        keys = [id_text(document["_id"]) for document in batch]
        ledger.mark_seen(keys, turn, ("compare_after", keys[-1]))
        looked["compared"] += len(batch)
        progress("compared", looked["compared"], None)
    ledger.put("compare_after", None)
    _end(work, turn)
