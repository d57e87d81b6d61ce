"""Where a worker may connect to: hosts that the server's owner named, at addresses that are public or named too.

A name can be made to mean a private address at the second look (DNS rebinding), and a server can answer with a redirect.
So it is not the address in the form alone that is judged but every look-up and every connection that the process makes
while it fetches, by Python's audit events, whatever library makes them.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from plankter._errors import PlankterError, SettingsError

PORTS = {"https": 443, "http": 80}
# addresses that hold another one inside: what a router makes of them cannot be seen from here
_TUNNELS = tuple(ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Refused(PlankterError):
    """A connection that is not allowed."""

    code = "refused"


@dataclass(frozen=True)
class Rule:
    """One host or network that was named; ``port`` None: the usual one of a scheme that may be used."""

    host: str
    port: int | None
    plain: bool  # http without encryption, too
    network: Network | None

    def allows(self, host: str, port: int | None, *, plain: bool) -> bool:
        """Whether it names the host at that port; None: at any."""
        address = _address(host)
        named = self.host == host or (address is not None and _within(address, self.network))
        if not named or (plain and not self.plain):
            return False
        usual = {PORTS["https"], PORTS["http"]} if self.plain else {PORTS["https"]}
        return port is None or (port == self.port if self.port is not None else port in usual)


@dataclass(frozen=True)
class Allowed:
    """All rules of a server."""

    rules: tuple[Rule, ...] = ()

    @staticmethod
    def of(entries: Sequence[str]) -> Allowed:
        """Rules from the texts HOST, HOST:PORT, ADDRESS, NETWORK/BITS, each perhaps behind ``http://``.

        Raises:
            SettingsError: a text of another form.
        """
        return Allowed(tuple(_rule(entry.strip()) for entry in entries if entry.strip()))

    def check_url(self, url: str) -> tuple[str, int]:
        """Host and port of an address that may be asked for.

        Raises:
            Refused: it may not. SettingsError: no address of that kind, or one that holds an account.
        """
        try:
            parts = urlsplit(url)
            host, port = plain_host(parts.hostname or ""), parts.port or PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise SettingsError(f"expected an address like https://host/folder: {error}") from error
        if parts.scheme not in PORTS or not host or any(ord(sign) < 33 for sign in url):
            raise SettingsError("expected an address like https://host/folder")
        if parts.username is not None or parts.password is not None:
            raise SettingsError("the address holds an account", hint="give it in the fields for it: these are not kept")
        if not any(rule.allows(host, port, plain=parts.scheme == "http") for rule in self.rules):
            if parts.scheme == "http" and any(rule.allows(host, None, plain=False) for rule in self.rules):
                raise Refused(f"{host} is asked by https only", hint=f"or start with --allow-remote http://{host}")
            raise Refused(
                f"this server does not fetch from {host} (port {port})",
                hint="its owner names the hosts that it may ask with `plankter serve --allow-remote HOST`",
            )
        return host, port

    def check_name(self, host: str, port: int | None) -> None:
        """Judges a look-up.

        Raises:
            Refused: of a host that was not named.
        """
        if not any(rule.allows(plain_host(host), port, plain=rule.plain) for rule in self.rules):
            raise Refused(
                f"a connection to {host} (port {port}) was refused: it is not among the hosts that were named"
            )

    def check_address(self, text: str, port: int | None) -> None:
        """Judges a connection.

        Raises:
            Refused: to an address that is not public and was not named.
        """
        address = _address(text)
        if not any(rule.port == port or (rule.port is None and port in PORTS.values()) for rule in self.rules):
            raise Refused(f"a connection to port {port} was refused: no host was named with it")
        if address is not None and is_public(address):
            return
        if address is None or not any(_within(address, rule.network) for rule in self.rules):
            where = text if address is None else str(address)
            raise Refused(
                f"a connection to {where} was refused: it is an address of a private network",
                hint=f"where that is meant, name it beside its host: --allow-remote {where}",
            )


def plain_host(host: str) -> str:
    """A host as rules name it: small letters, no dot at the end, an address in its shortest form."""
    host = host.strip("[]").rstrip(".").lower()
    address = _address(host)
    if address is not None:
        return str(address)
    try:
        return host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError as error:
        raise ValueError(f"{host!r} is no host") from error


def _address(text: str) -> Address | None:
    """An IP address, one inside IPv6 taken out of it; None for a name."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    inner = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return inner or found


def _within(address: Address, network: Network | None) -> bool:
    return network is not None and address.version == network.version and address in network


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet."""
    return address.is_global and not address.is_multicast and not any(_within(address, network) for network in _TUNNELS)


def _rule(text: str) -> Rule:
    plain = text.startswith("http://")
    rest = text.removeprefix("http://").removeprefix("https://").rstrip("/") if "://" in text else text
    hint = "expected HOST, HOST:PORT, an address or a network like 10.0.0.0/8"
    inner = _address(rest)
    try:
        network: Network | None = ipaddress.ip_network(rest if inner is None else inner)
        return Rule(str(network), None, plain, network)
    except ValueError:
        pass
    try:
        parts = urlsplit(f"//{rest}")
        host, port = plain_host(parts.hostname or ""), parts.port
    except ValueError as error:
        raise SettingsError(f"--allow-remote {text!r}: {error}", hint=hint) from error
    if not host or parts.path or parts.query or parts.username is not None or "*" in host or " " in host:
        raise SettingsError(f"--allow-remote {text!r} names no host", hint=hint)
    address = _address(host)
    return Rule(host, port, plain, None if address is None else ipaddress.ip_network(address))


_active: list[tuple[Allowed, list[Refused]]] = []


@contextmanager
def guarded(allowed: Allowed) -> Iterator[list[Refused]]:
    """While it lasts, this process connects only to where the rules allow; gives the list of what was refused.

    Meant for a process that does nothing else at the time: it stands in the way of every thread.
    """
    _watch()
    refused: list[Refused] = []
    _active.append((allowed, refused))
    try:
        yield refused
    finally:
        _active.remove((allowed, refused))


@cache
def _watch() -> None:
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _active or not event.startswith("socket."):
        return
    allowed, refused = _active[-1]
    try:
        if event == "socket.getaddrinfo":
            host, port = arguments[0], arguments[1]
            name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
            if isinstance(name, str) and name:
                allowed.check_name(name, _port(port))
        elif event in ("socket.connect", "socket.sendto"):
            target = arguments[1]
            if isinstance(target, tuple) and len(target) >= 2:
                allowed.check_address(str(target[0]), _port(target[1]))
    except Refused as error:
        refused.append(error)
        raise


def _port(value: object) -> int | None:
    try:
        return int(str(value)) if value not in (None, "") else None
    except ValueError:
        return PORTS.get(str(value), -1)
