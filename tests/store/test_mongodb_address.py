"""Addresses are shown without their secrets, whatever they look like."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankter._errors import StoreError
from plankter.store.mongodb import MongoCatalogue
from plankter.store.mongodb_address import has_password, masked, mongo_address


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("mongodb://h/db", "mongodb://h/db"),
        ("mongodb://ada@h:1,i:2/db?replicaSet=rs0", "mongodb://ada@h:1,i:2/db?replicaSet=rs0"),
        ("mongodb://ada:pw@h/db", "mongodb://ada:***@h/db"),
        ("mongodb+srv://ada:p@w/x@h/db?a=b", "mongodb+srv://ada:***@h/db?a=b"),
        ("mongodb://h/db?tlsCertificateKeyFilePassword=x&b=1", "mongodb://h/db?tlsCertificateKeyFilePassword=***&b=1"),
        ("catalogue.sqlite", "catalogue.sqlite"),
    ],
)
def test_masked(address: str, shown: str) -> None:
    assert masked(address) == shown


SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6).map(lambda text: "Zq9" + text)


@given(SECRET)
def test_a_password_never_shows(secret: str) -> None:
    assert secret not in masked(f"mongodb://ada:{secret}@host:27017/db")
    found = mongo_address("mongodb://ada@host/db", environment={"PLANKTER_MONGODB_PASSWORD": secret})
    assert secret not in repr(found) and secret not in found.shown
    assert secret not in found.scrub(f"cannot log in with {secret} at {found.uri}")
    assert found.scrub(found.uri) == "mongodb://ada:***@host/db"


def test_where_the_password_comes_from() -> None:
    environment = {"PLANKTER_MONGODB_PASSWORD": "a/b", "OTHER": "c d"}
    assert mongo_address("mongodb://u@h", environment=environment).uri == "mongodb://u:a%2Fb@h"
    assert mongo_address("mongodb://u:x@h", environment=environment).uri == "mongodb://u:x@h"
    assert mongo_address("mongodb://u:${OTHER}@h", environment=environment).uri == "mongodb://u:c+d@h"
    assert mongo_address("mongodb://h", environment=environment).uri == "mongodb://h"
    with pytest.raises(StoreError, match="NOT_SET"):
        mongo_address("mongodb://u:${NOT_SET}@h", environment={})
    assert has_password("mongodb://u:x@h") and has_password("mongodb://h/?tlsCertificateKeyFilePassword=x")
    assert not has_password("mongodb://u:${OTHER}@h") and not has_password("mongodb://u@h/db")


def test_the_database() -> None:
    assert mongo_address("mongodb://h").database == "plankter"
    assert mongo_address("mongodb://u:p@h/own%20one?x=y").database == "own one"
    assert mongo_address("mongodb://h/a", database="b").database == "b"
    with pytest.raises(StoreError, match="expected an address"):
        mongo_address("http://h/a")


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymongo", None)
    with pytest.raises(StoreError, match="pymongo") as caught:
        MongoCatalogue("mongodb://h/db")
    assert "plankter[mongodb]" in str(caught.value)
