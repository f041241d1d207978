"""The load balancer's events as requests, and answers in the form it asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

# The load balancer turns anything larger into a 502.
LARGEST_BODY = 1_000_000

_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: As sent, say `GET`.
        path: As the event has it: percent-encoded by AWS, decoded by others.
        headers: Values by lower-case name.
        multi_value: Whether the answer's headers must be lists.
    """

    method: str
    path: str
    headers: Mapping[str, tuple[str, ...]]
    multi_value: bool

    @classmethod
    def from_event(cls, event: Any) -> Request:
        """Return the request of an event; what is missing or of another type is empty.

        The body is not looked at, encoded or not: no route takes one.
        """
        members = event if isinstance(event, dict) else {}
        lists = members.get("multiValueHeaders")
        multi_value = isinstance(lists, dict)
        given = lists if isinstance(lists, dict) else members.get("headers")
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in given.items() if isinstance(given, dict) else ():
            values = value if isinstance(value, list) else [value]
            texts = tuple(text for text in values if isinstance(text, str))
            headers[name.lower()] = headers.get(name.lower(), ()) + texts
        method, path = members.get("httpMethod"), members.get("path")
        return cls(
            method=method if isinstance(method, str) else "",
            path=path if isinstance(path, str) else "",
            headers=headers,
            multi_value=multi_value,
        )


def decode_part(text: str) -> str | None:
    """Return a part of a path decoded once; None if it is no UTF-8.

    A part with a percent sign that encodes nothing was decoded before and stands as it is.
    """
    encoded = "%" in text and not _STRAY_PERCENT.search(text)
    try:
        octets = unquote_to_bytes(text) if encoded else text.encode()
        return octets.decode()
    except UnicodeError:
        return None


@dataclass(frozen=True, slots=True)
class Response:
    """One answer.

    Attributes:
        status: HTTP status.
        body: JSON text.
        content_type: `application/json` or `application/problem+json`.
        headers: Beside those that every answer has.
    """

    status: int
    body: str
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_event(self, request: Request, request_id: str) -> dict[str, Any]:
        """Return the answer as the load balancer takes it."""
        headers = {
            "Content-Type": self.content_type,
            # An answer is its reader's alone, and a pointer may move at any time.
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
            "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
            "X-Content-Type-Options": "nosniff",
            "X-Request-Id": request_id,
            **self.headers,
        }
        answer: dict[str, Any] = {
            "statusCode": self.status,
            "statusDescription": f"{self.status} {HTTPStatus(self.status).phrase}",
            "isBase64Encoded": False,
            "body": "" if request.method == "HEAD" else self.body,
        }
        if request.multi_value:
            answer["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
        else:
            answer["headers"] = headers
        return answer
