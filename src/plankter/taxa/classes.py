"""The class list: names from outside -> class_id, merged classes -> what they became, lists as CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from plankter._errors import NotFound, SettingsError
from plankter.types import Taxon

COLUMNS = ("class_id", "name", "aphia_id", "qualifier", "kind", "parent", "merged_into")
REQUIRED = ("class_id", "name")
MAX_BYTES = 20_000_000


def normal_name(name: str) -> str:
    """A class name as it is compared where no exact match exists: ``/`` to ``+``, blanks to ``_``, lower case."""
    return "_".join(name.split()).replace("/", "+").lower()


def match_name(name: str, class_ids: Iterable[str]) -> str | None:
    """The class_id that a name from outside means: an exact match, else one by `normal_name`, else None.

    A name that fits two classes after this only matches neither: a wrong class is worse than none.
    """
    known = list(class_ids)
    if name in known:
        return name
    wanted = normal_name(name)
    found = [class_id for class_id in known if normal_name(class_id) == wanted]
    return found[0] if len(found) == 1 else None


def match_class(name: str, taxa: Iterable[Taxon]) -> Taxon | None:
    """The entry of a class list that a name from outside means, by the rule of `match_name`; None where there is none."""
    by_id = {taxon.class_id: taxon for taxon in taxa}
    found = match_name(name, by_id)
    return None if found is None else by_id[found]


@dataclass(frozen=True)
class ClassList:
    """A class list without contradictions, in its own order.

    Raises:
        ValueError: a class_id twice, a ``parent`` or ``merged_into`` that is not in the list, or a circle of them.
    """

    taxa: tuple[Taxon, ...]
    _by_id: dict[str, Taxon] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_id: dict[str, Taxon] = {}
        for taxon in self.taxa:
            if taxon.class_id in by_id:
                raise ValueError(f"class {taxon.class_id!r} stands twice in the list")
            by_id[taxon.class_id] = taxon
        object.__setattr__(self, "_by_id", by_id)
        for relation in ("parent", "merged_into"):
            for taxon in self.taxa:
                self._check_chain(taxon, relation)

    def _check_chain(self, taxon: Taxon, relation: str) -> None:
        seen = [taxon.class_id]
        while (following := getattr(self._by_id[seen[-1]], relation)) is not None:
            if following not in self._by_id:
                raise ValueError(f"class {seen[-1]!r}: {relation} {following!r} is not in the list")
            if following in seen:
                raise ValueError(f"{relation} goes in a circle: {' > '.join([*seen, following])}")
            seen.append(following)

    def __len__(self) -> int:
        return len(self.taxa)

    def __iter__(self) -> Iterator[Taxon]:
        return iter(self.taxa)

    def __contains__(self, class_id: object) -> bool:
        return class_id in self._by_id

    def get(self, class_id: str) -> Taxon:
        """The entry itself, merged or not.

        Raises:
            NotFound: no such class.
        """
        if class_id not in self._by_id:
            raise NotFound(f"no class {class_id!r} in the class list", hint="`plankter taxa` lists the classes")
        return self._by_id[class_id]

    def resolve(self, class_id: str) -> Taxon:
        """What a class stands for today: follows ``merged_into`` to its end.

        Raises:
            NotFound: no such class.
        """
        taxon = self.get(class_id)
        while taxon.merged_into is not None:
            taxon = self._by_id[taxon.merged_into]
        return taxon

    def lineage(self, class_id: str) -> tuple[Taxon, ...]:
        """The class as it stands today and its parents, nearest first, each as it stands today.

        Raises:
            NotFound: no such class.
        """
        found = [self.resolve(class_id)]
        while (parent := found[-1].parent) is not None:
            above = self.resolve(parent)
            if above in found:  # merging a parent into its child closes a circle that neither column shows alone
                break
            found.append(above)
        return tuple(found)


def read_class_list(path: Path) -> ClassList:
    """A class list from CSV with the columns ``class_id``, ``name`` and any of the others in `COLUMNS`.

    Raises:
        SettingsError: not readable, a column missing, or an entry that contradicts the list; says which row.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SettingsError(f"a class list of more than {MAX_BYTES:,} bytes is not read", path=path)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"expected CSV in UTF-8: {error}", path=path) from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
    if missing:
        raise SettingsError(
            f"column {missing[0]!r} is missing; a class list has {', '.join(COLUMNS)}", path=path, row=1
        )
    taxa = []
    try:
        for cells in reader:
            taxa.append(_taxon(cells))
    except (ValueError, csv.Error) as error:
        raise SettingsError(str(error), path=path, row=reader.line_num) from error
    try:
        return ClassList(tuple(taxa))
    except ValueError as error:
        raise SettingsError(str(error), path=path) from error


def _taxon(cells: dict[str, str]) -> Taxon:
    if None in cells:
        raise ValueError("more cells than columns: quote a name that holds a comma")
    values = {name: (cells.get(name) or "").strip() or None for name in COLUMNS}
    aphia_id = values["aphia_id"]
    if aphia_id is not None and not (aphia_id.isascii() and aphia_id.isdigit()):
        raise ValueError(f"aphia_id must be a whole number or empty, got {aphia_id!r}")
    return Taxon(
        class_id=values["class_id"] or "",
        name=values["name"] or "",
        aphia_id=None if aphia_id is None else int(aphia_id),
        qualifier=values["qualifier"],
        kind=values["kind"] or "living",
        parent=values["parent"],
        merged_into=values["merged_into"],
    )


def write_class_list(path: Path, taxa: Iterable[Taxon]) -> None:
    """Writes a class list as `read_class_list` reads it: CSV, UTF-8 with mark so that Excel opens it as it is."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for taxon in taxa:
            values = [getattr(taxon, name) for name in COLUMNS]
            writer.writerow(["" if value is None else value for value in values])
    partial.replace(path)


@cache
def shipped_class_list() -> tuple[Taxon, ...]:
    """The 95 classes of the Belgian North Sea FlowCam set (LifeWatch / VLIZ, doi 10.5281/zenodo.10554845).

    AphiaIDs are the set's own: a class of several taxa carries that of their nearest common taxon there, so one
    AphiaID may stand for several classes. Parents were added where a class is part of another class of the list.
    """
    return read_class_list(Path(__file__).with_name("vliz_flowcam.csv")).taxa
