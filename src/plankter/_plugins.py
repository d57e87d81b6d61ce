"""Entry points by group: built-ins and third parties' plugins come in by the same door."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from plankter._errors import NotFound

GROUPS = ("plankter.readers", "plankter.backbones", "plankter.exporters", "plankter.catalogues")


@dataclass(frozen=True)
class Plugin:
    """One registered plugin; ``target`` is None where loading failed and ``problem`` says why."""

    group: str
    name: str
    value: str
    target: Any
    problem: str | None


@cache
def plugins(group: str) -> tuple[Plugin, ...]:
    """All plugins of a group by name; a broken one warns by name and never stops the rest."""
    found = sorted(entry_points(group=group), key=lambda e: e.name)
    return tuple(_load(group, entry) for entry in found)


def _load(group: str, entry: EntryPoint) -> Plugin:
    try:
        return Plugin(group, entry.name, entry.value, entry.load(), None)
    except Exception as error:  # noqa: BLE001 - a third party's module may raise anything when imported
        problem = f"{type(error).__name__}: {error}"
        warnings.warn(f"plugin {entry.name!r} of {group} ({entry.value}) left out: {problem}", stacklevel=2)
        return Plugin(group, entry.name, entry.value, None, problem)


def load(group: str, name: str) -> Any:
    """The named plugin's class or function; only that one is imported.

    Raises:
        NotFound: no such name in the group; the message lists those there are.
    """
    found = list(entry_points(group=group, name=name))
    if not found:
        names = ", ".join(sorted(e.name for e in entry_points(group=group))) or "none"
        raise NotFound(f"no {name!r} in {group}; there are: {names}")
    plugin = _load(group, found[0])
    if plugin.target is None:
        raise NotFound(f"plugin {name!r} of {group} cannot be loaded: {plugin.problem}")
    return plugin.target
