"""Decides which addresses an endpoint may have: endpoints are customers' input.

Rules:

* The address connected to is checked, not the name: a name may resolve differently next time.
* Cloud metadata services hand out the platform's credentials: refused always.
* Unless private endpoints are allowed, only globally routable unicast passes. IPv6 that carries an
  IPv4 address (mapped, NAT64, 6to4, ISATAP …) is judged by what it carries.

The tables restate the IANA special-purpose registries (RFC 6890 and successors), because what
``ipaddress`` calls global differs between Python's patch releases.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from relay.runtime.errors import ForbiddenAddressError

_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Google, Azure, OpenStack, Oracle, DigitalOcean and others
        "169.254.169.253",  # AWS resolver, beside the metadata service
        "169.254.170.2",  # AWS ECS task credentials
        "169.254.170.23",  # AWS EKS pod identity
        "169.254.42.42",  # Scaleway
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure host agent
        "192.0.0.192",  # Oracle, first generation
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS EKS pod identity
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
    )
)

_SPECIAL_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host: 0.0.0.0 reaches loopback
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)

_GLOBAL_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
_MAPPED = IPv6Network("::ffff:0:0/96")
_COMPATIBLE = IPv6Network("::/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_ISATAP_MARKS = (0x00005EFE, 0x02005EFE)  # RFC 5214 6.1


def check_address(ip: str, *, allow_private: bool) -> None:
    """Raise ForbiddenAddressError unless an endpoint may have this address.

    ``ip`` is numeric, an IPv6 scope is ignored. The error does not name the address: it reaches the
    customer's status, and what a name resolves to inside our network is not theirs to learn.
    """
    address = ip_address(ip.partition("%")[0])
    carried = list(_carried(address))
    if any(each in _METADATA for each in (address, *carried)):
        raise ForbiddenAddressError("the endpoint is a cloud's metadata service")
    if allow_private:
        return
    if isinstance(address, IPv4Address):
        allowed = _is_global_v4(address)
    elif address in _MAPPED or address in _NAT64:
        allowed = True  # not an address of its own: what it carries decides
    else:
        allowed = address in _GLOBAL_V6 and not any(address in net for net in _SPECIAL_V6)
    if not allowed or not all(_is_global_v4(each) for each in carried):
        raise ForbiddenAddressError("the endpoint resolves to an address that is not allowed here")


def _is_global_v4(address: IPv4Address) -> bool:
    return not any(address in network for network in _SPECIAL_V4)


def _carried(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses that an IPv6 address carries."""
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    low = number & 0xFFFFFFFF
    in_low_bits = address in _MAPPED or address in _COMPATIBLE or address in _NAT64
    if in_low_bits or number >> 32 & 0xFFFFFFFF in _ISATAP_MARKS:
        yield IPv4Address(low)
    if address in _6TO4:
        yield IPv4Address(number >> 80 & 0xFFFFFFFF)
    if address in _TEREDO:
        yield IPv4Address(low ^ 0xFFFFFFFF)  # RFC 4380 4: the client's address is inverted
        yield IPv4Address(number >> 64 & 0xFFFFFFFF)
