"""Addresses of MongoDB servers: where the password comes from, and how an address is shown without it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote_plus, unquote_plus

from plankter._errors import StoreError

PASSWORD_VARIABLE = "PLANKTER_MONGODB_PASSWORD"
DEFAULT_DATABASE = "plankter"
_SCHEMES = ("mongodb://", "mongodb+srv://")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_OPTION = re.compile(r"([?&][^=&]*(?:password|token|secret)[^=&]*=)[^&]*", re.IGNORECASE)


@dataclass(frozen=True)
class MongoAddress:
    """An address that can be connected to.

    ``shown`` is for people: no password in it. ``uri`` is for the driver only and stays out of every message.
    """

    uri: str = field(repr=False)
    shown: str
    database: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def scrub(self, text: str) -> str:
        """A message of the driver without anything secret."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def is_mongodb(address: str) -> bool:
    """True for an address of a MongoDB server."""
    return address.startswith(_SCHEMES)


def masked(address: str) -> str:
    """An address as it may be shown, logged and written in errors: ``***`` for the password."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    head, at, tail = rest.rpartition("@")  # the last one: an unescaped password may hold any character
    if at:
        rest = f"{head.partition(':')[0]}{':***' if ':' in head else ''}@{tail}"
    return scheme + mark + _SECRET_OPTION.sub(r"\1***", rest)


def has_password(address: str) -> bool:
    """True where a password is written out in the address, not named as ``${VARIABLE}``."""
    found = _secrets_in(_VARIABLE.sub("", address))
    return bool(found)


def _secrets_in(address: str) -> list[str]:
    found = [part.partition("=")[2] for part in re.split("[?&]", address)[1:] if _SECRET_OPTION.match("?" + part)]
    head, at, _ = address.partition("://")[2].rpartition("@")
    if at:
        found.append(head.partition(":")[2])
    return [secret for secret in found if secret]


def mongo_address(
    address: str, *, database: str | None = None, environment: Mapping[str, str] = os.environ
) -> MongoAddress:
    """Reads an address ``mongodb://[user[:password]@]host[:port][/database][?options]``.

    ``${NAME}`` stands for an environment variable, so that a password need not be written down; a user without a
    password takes that of `PASSWORD_VARIABLE` where it is set.

    Args:
        address: as the user wrote it.
        database: which database, where the address may leave it out.
        environment: variables.

    Raises:
        StoreError: no address of MongoDB, or a variable that is not set.
    """
    shown = masked(address)
    if not is_mongodb(address):
        raise StoreError(f"expected an address mongodb://host[:port]/database, got {shown!r}")

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in environment:
            raise StoreError(f"the environment variable {name} is not set", path=shown, hint=f"export {name}=...")
        return quote_plus(environment[name])

    uri = _VARIABLE.sub(value, address)
    scheme, _, rest = uri.partition("://")
    user, at, hosts = rest.rpartition("@")
    if at and user and ":" not in user and environment.get(PASSWORD_VARIABLE) and "authmechanism" not in uri.lower():
        uri = f"{scheme}://{user}:{quote_plus(environment[PASSWORD_VARIABLE])}@{hosts}"
    raw = _secrets_in(uri)
    secrets = sorted({*raw, *(unquote_plus(text) for text in raw)}, key=len, reverse=True)
    named = hosts.partition("/")[2].partition("?")[0]
    return MongoAddress(uri, shown, database or unquote_plus(named) or DEFAULT_DATABASE, tuple(secrets))
