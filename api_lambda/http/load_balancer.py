"""The load balancer's events as requests, and answers in the form it asked for."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from prediction_contract.limits import MAX_FUNCTION_ANSWER_BYTES

# Status and headers take some of what the load balancer accepts; it turns anything larger into a 502.
LARGEST_BODY = MAX_FUNCTION_ANSWER_BYTES - 4096
# In the event, quotes and what is not ASCII are escaped, and what lies beyond the basic plane twice.
_LONGEST_ESCAPE = len(r"\ud83d\udeeb")

_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class LoadBalancerRequest:
    """One request.

    Attributes:
        method: As sent, say `GET`.
        path: As the event has it: percent-encoded by AWS, decoded by others.
        query: Values by name, both as the event has them.
        headers: Values by lower-case name.
        body: Decoded; empty if there is none.
        multi_value: Whether the answer's headers must be lists.
    """

    method: str
    path: str
    query: Mapping[str, tuple[str, ...]]
    headers: Mapping[str, tuple[str, ...]]
    body: bytes
    multi_value: bool

    @classmethod
    def from_event(cls, event: Any) -> LoadBalancerRequest:
        """Return the request of an event; what is missing or of another type is empty."""
        members = event if isinstance(event, dict) else {}
        headers: dict[str, tuple[str, ...]] = {}
        for name, values in _texts(members, "multiValueHeaders", "headers").items():
            headers[name.lower()] = headers.get(name.lower(), ()) + values
        method, path = members.get("httpMethod"), members.get("path")
        return cls(
            method=method if isinstance(method, str) else "",
            path=path if isinstance(path, str) else "",
            query=_texts(members, "multiValueQueryStringParameters", "queryStringParameters"),
            headers=headers,
            body=_body(members),
            multi_value=isinstance(members.get("multiValueHeaders"), dict),
        )


def _texts(members: Mapping[str, Any], several: str, single: str) -> dict[str, tuple[str, ...]]:
    """Return the texts by name of a member that has one form or the other."""
    lists = members.get(several)
    given = lists if isinstance(lists, dict) else members.get(single)
    found: dict[str, tuple[str, ...]] = {}
    for name, value in given.items() if isinstance(given, dict) else ():
        if isinstance(value, str):
            found[name] = (value,)
        else:
            values = value if isinstance(value, list) else ()
            found[name] = tuple(text for text in values if isinstance(text, str))
    return found


def _body(members: Mapping[str, Any]) -> bytes:
    body = members.get("body")
    if not isinstance(body, str):
        return b""
    try:
        return base64.b64decode(body, validate=True) if members.get("isBase64Encoded") else body.encode()
    except ValueError:
        # No byte of it can be what was sent, so it is nothing that a route would take.
        return b""


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
        body: Text.
        content_type: Of the body.
        headers: Beside those that every answer has.
    """

    status: int
    body: str
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the load balancer takes it."""
        return len(self.body) * _LONGEST_ESCAPE <= LARGEST_BODY or len(json.dumps(self.body)) <= LARGEST_BODY

    def to_event(self, request: LoadBalancerRequest, request_id: str) -> dict[str, Any]:
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


def longest_that_fits(entries: int, page: Callable[[int], Response]) -> Response:
    """Return the page with as many entries as the load balancer takes: all, or half of them, or a quarter ...

    Args:
        entries: How many there are.
        page: Makes the answer with so many of them, which says where the next one begins.
    """
    response = page(entries)
    while entries > 1 and not response.fits:
        entries //= 2
        response = page(entries)
    return response
