"""Contract test classes for plugins: subclass one in your own tests and say how to make what it tests.

    from plankter.testing.catalogue import CatalogueContract

    class TestMine(CatalogueContract):
        def make(self, folder):
            return MyCatalogue(...)

They need pytest; nothing else of plankter does.
"""
