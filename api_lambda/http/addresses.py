"""Resolves host names within a deadline, and refuses private addresses before connecting."""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
import time
from typing import Any

_Address = tuple[Any, Any, int, str, tuple[Any, ...]]
_NUMERIC = re.compile(r"[0-9.]+|[0-9a-fA-F.]*:[0-9a-fA-F:.]*")


def seconds_left(deadline: float) -> float:
    """Return the seconds until a deadline by `time.monotonic`.

    Raises:
        TimeoutError: The deadline has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def open_socket(host: str, port: int, deadline: float, *, public_only: bool) -> socket.socket:
    """Connect to the host's first address that answers before the deadline.

    The name is resolved only once, because a second look-up may return other addresses. Each address is
    checked right before it is used.

    Raises:
        OSError: No address answers in time, or the name cannot be resolved.
        ValueError: An address is private although `public_only` is set.
    """
    failure: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in _look_up(host, port, deadline):
        if public_only:
            require_public(str(address[0]))
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(seconds_left(deadline))
            opened.connect(address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            opened.close()
            failure = error
        else:
            return opened
    raise failure


def _look_up(host: str, port: int, deadline: float) -> list[_Address]:
    """Return a host's addresses; the system call has no timeout, so it runs in a thread."""
    if _NUMERIC.fullmatch(host):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    answers: queue.SimpleQueue[list[_Address] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            answers.put(error)

    # A daemon, so that a hanging look-up does not keep the process alive.
    threading.Thread(target=look_up, daemon=True).start()
    try:
        found = answers.get(timeout=seconds_left(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


def require_public(text: str) -> None:
    """Refuse a private address, including an IPv4 address that is embedded in an IPv6 address.

    Raises:
        ValueError: The address is private.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    judged: list[Any] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            judged = [address.ipv4_mapped]
        elif address in ipaddress.ip_network("64:ff9b::/96"):
            judged = [ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)]
        elif address not in ipaddress.ip_network("2000::/3"):
            # Only these addresses are routed on the internet; Python versions differ about some others.
            raise ValueError("the address is private")
        judged += filter(None, (address.sixtofour, *(address.teredo or ())))
    if not all(each.is_global and not each.is_multicast for each in judged):
        raise ValueError("the address is private")
