"""Addresses of listeners."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import msgspec

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/\s]*)):([0-9]{1,5})")
_PORT = re.compile(r"[0-9]{1,5}")
_PORT_MAX = 65535


class ListenAddress(msgspec.Struct, frozen=True):
    """Address of a listener; ``host`` "" is every interface, with ``port`` 0 the kernel chooses."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(values: dict[str, Any], key: str, default: ListenAddress) -> ListenAddress:
    """Return the address of a setting, ``default`` where it is absent or faulty."""
    match = _ADDRESS.fullmatch(values.get(key, ""))
    return default if match is None else ListenAddress(match[1] or match[2] or "", int(match[3]))


def address_problem(text: str) -> str:
    """Return the fault of a listener's address, or ""."""
    match = _ADDRESS.fullmatch(text)
    if _PORT.fullmatch(text) and int(text) <= _PORT_MAX:
        return f'must be host:port: write "127.0.0.1:{text}", or ":{text}" for every interface'
    if match is None or int(match[3]) > _PORT_MAX:
        return 'must be host:port, such as "127.0.0.1:9490", "[::1]:9490" or ":9490"'
    return ""


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach an address; of names, ``localhost`` alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
