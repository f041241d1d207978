"""Name look-ups that return addresses that a test chooses, or that hang."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def names_leading_to(*addresses: str) -> Iterator[list[str]]:
    """Let every look-up return these addresses until the block ends; give the names that were looked up."""
    asked: list[str] = []

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port),
            )
            for address in addresses
        ]

    with mock.patch("socket.getaddrinfo", look_up):
        yield asked


@contextmanager
def hanging_names() -> Iterator[list[str]]:
    """Let every look-up hang until the block ends; give the names that were looked up."""
    asked: list[str] = []
    ended = threading.Event()

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        ended.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")

    with mock.patch("socket.getaddrinfo", look_up):
        try:
            yield asked
        finally:
            ended.set()
