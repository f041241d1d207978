"""Checks whether a component of the local stack answers over its own protocol, with a deadline."""

from __future__ import annotations

import http.client
import json
from typing import Any

_TIMEOUT_SECONDS = 5.0
_OK = 200


def answers_http(port: int, path: str) -> str | None:
    """Request a path on the loopback port.

    Returns:
        None if the status is 200, else the fault.
    """
    try:
        status, _ = _request(port, "GET", path)
    except (OSError, http.client.HTTPException) as error:
        return f"GET {path}: {error!r}"
    return None if status == _OK else f"GET {path}: status {status}"


def answers_snowflake(port: int) -> str | None:
    """Log in, run a SELECT and log out, like a connector.

    These are the three requests of the real connector, whose import would take a second of CPU.

    Returns:
        None if the statement succeeded, else the fault.
    """
    try:
        login = _snowflake(
            port, "/session/v1/login-request", {"data": {"SESSION_PARAMETERS": {}}}, token=None
        )
        token = login["data"]["token"]
        try:
            answer = _snowflake(port, "/queries/v1/query-request", {"sqlText": "SELECT 1"}, token=token)
        finally:
            _snowflake(port, "/session?delete=true", {}, token=token)
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        return f"SELECT 1: {error!r}"
    return None if answer["success"] else f"SELECT 1: {answer.get('message')}"


def _snowflake(port: int, path: str, document: dict[str, Any], *, token: str | None) -> dict[str, Any]:
    """Send one request of Snowflake's protocol and return its answer."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f'Snowflake Token="{token}"'
    status, body = _request(port, "POST", path, body=json.dumps(document), headers=headers)
    if status != _OK:
        raise ValueError(f"POST {path}: status {status}")
    return json.loads(body)


def _request(
    port: int, method: str, path: str, *, body: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Send one HTTP request to the loopback port and return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
