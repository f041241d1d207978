"""Requests are signed like botocore signs them, for any body, time and credentials."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from aws_wire.request_signer import RequestSigner, SigningCredentials

REGION = "eu-west-1"
KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW = 1_700_000_000


def signer_of(credentials: Any, **options: Any) -> RequestSigner:
    """Return a signer, for DynamoDB by default."""
    service = {"service": "dynamodb", "content_type": "application/x-amz-json-1.0"}
    return RequestSigner(lambda: credentials, REGION, **{"host": "host", **service, **options})


def authorization_by_botocore(
    url: str, headers: dict[str, str], body: bytes, credentials: Credentials, service: str
) -> str:
    """Return botocore's authorization of a request at the time in its headers."""
    request = AWSRequest("POST", url, data=body, headers=headers)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = _SigV4AtRequestTime(credentials, service, REGION)
    signer.add_auth(request)
    return request.headers["Authorization"]


class _SigV4AtRequestTime(SigV4Auth):
    """botocore's signer at the time that the request names."""

    def add_auth(self, request: Any) -> None:
        canonical = self.canonical_request(request)
        self._inject_signature_to_request(
            request, self.signature(self.string_to_sign(request, canonical), request)
        )


@given(st.binary(max_size=300), st.integers(1_400_000_000, 2_000_000_000), st.none() | st.just("a/token+="))
def test_requests_are_signed_like_botocore(body: bytes, now: int, token: str | None) -> None:
    """Any body, time and session token gives botocore's signature over the same headers."""
    credentials = Credentials("AKIDEXAMPLE", "secret/key", token)
    host = "dynamodb.eu-west-1.amazonaws.com"
    signer = signer_of(credentials.get_frozen_credentials(), host=host, clock=lambda: now + 0.5)
    headers = signer.headers("DynamoDB_20120810.BatchWriteItem", body)
    signed = headers.pop("authorization")
    assert signed == authorization_by_botocore(f"https://{host}/", headers, body, credentials, "dynamodb")
    assert headers["x-amz-date"] == datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")


@pytest.mark.parametrize("token", [None, "session-token/+="])
@pytest.mark.parametrize("url", ["http://127.0.0.1:4566/", "https://dynamodb.eu-west-1.amazonaws.com/"])
@pytest.mark.parametrize("service", ["dynamodb", "secretsmanager"])
def test_signatures_match_botocore_for_each_service(url: str, token: str | None, service: str) -> None:
    """The signature is right with and without a session token, for HTTP and HTTPS addresses."""
    signer = signer_of(
        SigningCredentials(*KEYS, token),
        host=url.split("/")[2],
        service=service,
        content_type="application/x-amz-json-1.1",
    )
    for body in (b"{}", '{"Key":{"entity_id":{"S":"Zürich"}}}'.encode()):
        headers = signer.headers("DynamoDB_20120810.GetItem", body)
        signed = headers.pop("authorization")
        assert headers.get("x-amz-security-token") == token
        theirs = authorization_by_botocore(url, headers, body, Credentials(*KEYS, token), service)
        assert signed == theirs


def test_path_and_target_are_signed() -> None:
    """An endpoint may have a path, and operations within one second get their own signatures."""
    signer = signer_of(SigningCredentials(*KEYS, None), path="/local", clock=lambda: NOW)
    for operation in ("GetItem", "Query", "GetItem"):
        headers = signer.headers(f"DynamoDB_20120810.{operation}", b"{}")
        signed = headers.pop("authorization")
        assert headers["x-amz-target"].endswith(operation)
        theirs = authorization_by_botocore(
            "https://host/local", headers, b"{}", Credentials(*KEYS), "dynamodb"
        )
        assert signed == theirs


def test_renewed_credentials_are_used() -> None:
    """New credentials are used from the next second on."""
    now, credentials = [float(NOW)], Credentials("OLD", "old")
    signer = signer_of(credentials, clock=lambda: now[0])
    assert "Credential=OLD/" in signer.headers("t", b"")["authorization"]
    credentials.access_key, credentials.secret_key = "NEW", "new"
    now[0] += 1
    fresh = signer_of(Credentials("NEW", "new"), clock=lambda: now[0])
    assert signer.headers("t", b"") == fresh.headers("t", b"")


def test_signing_key_changes_with_the_day() -> None:
    """A process that runs past midnight signs with the new day's key."""
    now, credentials = [0.0], SigningCredentials("a", "b", None)
    signer = signer_of(credentials, clock=lambda: now[0])
    first = signer.headers("t", b"")["authorization"]
    now[0] = 86_400
    second = signer.headers("t", b"")["authorization"]
    assert second == signer_of(credentials, clock=lambda: now[0]).headers("t", b"")["authorization"]
    assert "19700101" in first
    assert "19700102" in second


def test_credentials_repr_hides_secrets() -> None:
    """A traceback that prints credentials shows neither secret key nor token."""
    assert repr(SigningCredentials("AKID", "secret", "token")) == "SigningCredentials(access_key='AKID')"
