"""The MongoDB catalogue keeps the contract; what only it can get wrong is tested beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from plankter.store.base import Catalogue
from plankter.store.mongodb import MongoCatalogue
from plankter.testing.catalogue import CatalogueContract


class TestMongodb(CatalogueContract):
    @pytest.fixture(autouse=True)
    def _server(self, mongo_url: str) -> None:
        self.url = mongo_url

    def make(self, folder: Path) -> Catalogue:
        return MongoCatalogue(self.url)
