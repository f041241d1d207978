"""Tests of the connection to DynamoDB: signed requests, verified TLS, and proxies."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from glue_scripts.dynamodb.item_writer import OnlineWriter
from glue_scripts.errors import LoadFailedError
from tests.fakes.dynamodb_server import TABLE, DynamoDbServer, dynamodb_server, endpoint
from tests.glue.load_platform import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ITEMS = [(f"E-{number}", json.dumps({"entity_id": {"S": f"E-{number}"}})) for number in range(60)]


def test_request_has_path_signed_headers_and_body() -> None:
    """A request has the endpoint's path, signed headers, and the body with its length."""
    reached = endpoint("http://127.0.0.1:8000/local")
    head, body = reached.request("BatchWriteItem", b"{}").split(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert (first, body) == ("POST /local HTTP/1.1", b"{}")
    assert headers["content-length"] == "2"
    assert headers["host"] == "127.0.0.1:8000"
    assert headers["x-amz-target"] == "DynamoDB_20120810.BatchWriteItem"
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-target," in headers["authorization"]


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, private


@contextmanager
def _tls_server(folder: Path) -> Iterator[tuple[DynamoDbServer, str, Path]]:
    certificate, private = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    with dynamodb_server() as server:
        # A failed handshake is expected and should not be printed.
        server.handle_error = lambda *_arguments: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server, server.url.replace("http://", "https://"), certificate


def test_tls_is_verified(tmp_path: Path) -> None:
    """Items are written to a server with a trusted certificate and to no other."""
    with _tls_server(tmp_path) as (server, url, certificate):
        large = [(key, text[:-1] + f',"text":{{"S":"{"x" * 100_000}"}}}}') for key, text in ITEMS]
        trusting = OnlineWriter(endpoint(url, ca_bundle=str(certificate)), TABLE)
        assert trusting.write_items(large) == len(ITEMS)
        assert len(server.items) == len(ITEMS)
        wary = OnlineWriter(endpoint(url), TABLE, patience_seconds=0.3)
        with pytest.raises(LoadFailedError, match="CERTIFICATE_VERIFY_FAILED"):
            wary.write_items(ITEMS)


class _Proxy(threading.Thread):
    """Passes bytes on to one server and records the first bytes of each connection."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.heads: list[bytes] = []
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"

    def run(self) -> None:
        """Accept connections until the listening socket is closed."""
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listening.close()

    def _serve(self, client: socket.socket) -> None:
        head = client.recv(65536)
        self.heads.append(head)
        server = socket.create_connection(("127.0.0.1", self._port))
        if head.startswith(b"CONNECT"):
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            server.sendall(head)
        threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
        self._pass_on(server, client)

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            target.close()


def test_requests_go_through_the_proxy(tmp_path: Path) -> None:
    """Plain requests name the whole address; TLS uses a tunnel with the proxy's login."""
    with dynamodb_server() as server:
        proxy = _Proxy(server.server_address[1])
        proxy.start()
        reached = endpoint(server.url, proxies={"http": f"http://{proxy.address}"})
        assert OnlineWriter(reached, TABLE).write_items(ITEMS) == len(ITEMS)
        proxy.close()
    assert proxy.heads
    assert all(head.startswith(f"POST {server.url}/ HTTP/1.1".encode()) for head in proxy.heads)
    with _tls_server(tmp_path) as (server, url, certificate):
        proxy = _Proxy(server.server_address[1])
        proxy.start()
        login = {"https": f"http://user:pass%20word@{proxy.address}"}
        reached = endpoint(url, ca_bundle=str(certificate), proxies=login)
        assert OnlineWriter(reached, TABLE).write_items(ITEMS) == len(ITEMS)
        proxy.close()
    assert all(head.startswith(b"CONNECT 127.0.0.1:") for head in proxy.heads)
    assert all(b"Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=" in head for head in proxy.heads)


_CREDENTIAL_PROCESS = """
import json, time
from datetime import UTC, datetime, timedelta
# So soon that botocore asks again before it signs anything else.
expiration = datetime.now(UTC) + timedelta(seconds=60)
print(json.dumps({"Version": 1, "AccessKeyId": f"AKID{time.time_ns()}", "SecretAccessKey": "s",
                  "SessionToken": "t", "Expiration": expiration.isoformat()}))
"""
_WRITE = """
import json
from glue_scripts.dynamodb.dynamodb_endpoint import default_endpoint
from glue_scripts.dynamodb.item_writer import OnlineWriter
rows = [(f"E-{number}", json.dumps({"entity_id": {"S": f"E-{number}"}})) for number in range(60)]
OnlineWriter(default_endpoint(), "online", units_per_second=25).write_items(rows)
"""


def test_endpoint_uses_the_environment_like_botocore(tmp_path: Path) -> None:
    """Address, certificates, proxy and credentials come from the environment; credentials are renewed."""
    script, config = tmp_path / "credentials.py", tmp_path / "config"
    script.write_text(_CREDENTIAL_PROCESS)
    config.write_text(f"[default]\nregion = eu-west-1\ncredential_process = {sys.executable} {script}\n")
    with _tls_server(tmp_path) as (server, url, certificate):
        proxy = _Proxy(server.server_address[1])
        proxy.start()
        done = subprocess.run(
            [sys.executable, "-c", _WRITE],
            cwd=ROOT,
            env={
                "AWS_CONFIG_FILE": str(config),
                "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
                "AWS_ENDPOINT_URL_DYNAMODB": url,
                "AWS_CA_BUNDLE": str(certificate),
                "HTTPS_PROXY": f"http://{proxy.address}",
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        proxy.close()
        assert done.returncode == 0, done.stderr
        assert len(server.items) == 60
        assert len(server.access_keys) >= 2
    assert proxy.heads
    assert all(head.startswith(b"CONNECT 127.0.0.1:") for head in proxy.heads)
