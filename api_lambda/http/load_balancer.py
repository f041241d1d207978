"""Converts the load balancer's events to requests, and answers to its format."""

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

# The load balancer turns larger answers into a 502; the rest is for status and headers.
LARGEST_BODY = MAX_FUNCTION_ANSWER_BYTES - 4096
# JSON escapes quotes and characters beyond ASCII, and those beyond the basic plane as two escapes.
_LONGEST_ESCAPE = len(r"\ud83d\udeeb")

_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class LoadBalancerRequest:
    """One request.

    Attributes:
        method: The HTTP method as sent, for example `GET`.
        path: The path from the event; AWS leaves it percent-encoded, other load balancers decode it.
        query: The query's values by name, encoded as in the event.
        headers: The header values by lower-case name.
        body: The decoded body; empty if there is none.
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
        """Return an event's request; missing or malformed members are left empty."""
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
    """Return the texts by name from the multi-value member `several` or the single-value member `single`."""
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
        # Invalid base64; no route accepts an empty body.
        return b""


def decode_part(text: str) -> str | None:
    """Percent-decode a part of a path once; None if the result is not UTF-8.

    A part with a percent sign that encodes nothing was already decoded and is returned unchanged.
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
        status: The HTTP status.
        body: The body's text.
        content_type: The body's content type.
        headers: Headers in addition to those of every answer.
    """

    status: int
    body: str
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the load balancer accepts the answer's size."""
        return len(self.body) * _LONGEST_ESCAPE <= LARGEST_BODY or len(json.dumps(self.body)) <= LARGEST_BODY

    def to_event(self, request: LoadBalancerRequest, request_id: str) -> dict[str, Any]:
        """Return the answer in the load balancer's format."""
        headers = {
            "Content-Type": self.content_type,
            # An answer is for this caller only, and the live pointer may move at any time.
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


def longest_fitting_page(entries: int, page: Callable[[int], Response]) -> Response:
    """Return the longest page that the load balancer accepts, halving the number of entries until it fits.

    Args:
        entries: How many entries there are.
        page: Makes the answer with the first n entries; the answer says where the next page begins.
    """
    response = page(entries)
    while entries > 1 and not response.fits:
        entries //= 2
        response = page(entries)
    return response
