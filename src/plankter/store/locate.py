"""Addresses of catalogues -> catalogues."""

from __future__ import annotations

from pathlib import Path

from plankter._plugins import load
from plankter.store.base import Catalogue

GROUP = "plankter.catalogues"


def open_catalogue(address: str, *, base: Path | None = None) -> Catalogue:
    """Opens a catalogue by its address.

    Args:
        address: ``sqlite:PATH`` or a bare path, ``memory:``, or ``scheme://...`` of a plugin, which is called with
            the whole address.
        base: folder where a relative path starts; by default the current one.

    Raises:
        NotFound: no plugin of that scheme; the message lists those there are.
        NewerWorkspace: the catalogue was written by a later version.
        StoreError: it cannot be opened.
    """
    scheme, colon, rest = address.partition(":")
    if not colon or len(scheme) == 1:  # a bare path, or one that starts with a drive letter
        scheme, rest = "sqlite", address
    target = load(GROUP, scheme)
    if scheme == "sqlite":
        opened: Catalogue = target((base or Path()) / rest)
    elif scheme == "memory":
        opened = target()
    else:
        opened = target(address)
    return opened
