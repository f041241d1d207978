"""A DynamoDB endpoint: the address, proxy, TLS and credentials that botocore would use."""

from __future__ import annotations

import base64
import ssl
from functools import cache
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import boto3
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from aws_wire.request_signer import RequestSigner
from glue_scripts.aws_clients import client

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

CONNECT_SECONDS = 10.0
_PORTS = {"http": 80, "https": 443}
_API = "DynamoDB_20120810"
_CONTENT_TYPE = "application/x-amz-json-1.0"


class DynamoDbEndpoint:
    """One region's DynamoDB endpoint.

    Args:
        address: The endpoint's URL.
        region: The region.
        credentials: botocore's credentials, which refresh themselves.
        ca_bundle: The file with the trusted certificate authorities; None for botocore's own.
        proxies: Proxy URLs by scheme; None for those of the environment.
    """

    def __init__(
        self,
        address: str,
        region: str,
        credentials: Any,
        *,
        ca_bundle: str | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        url = urlsplit(address)
        self._host = url.hostname or ""
        self._is_tls = url.scheme == "https"
        self._port = url.port or _PORTS[url.scheme]
        found = get_environ_proxies(address) if proxies is None else proxies
        proxy = found.get(url.scheme)
        self._proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        self._context = _tls(ca_bundle) if self._is_tls else None
        host = url.netloc.rpartition("@")[2]
        path = url.path or "/"
        # A plain HTTP proxy needs the whole URL in the request line; with TLS it only opens a tunnel.
        self._target = f"http://{host}{path}" if self._proxy and not self._is_tls else path
        self._signer = RequestSigner(
            credentials.get_frozen_credentials,
            region,
            host,
            service="dynamodb",
            content_type=_CONTENT_TYPE,
            path=path,
        )

    def request(self, operation: str, body: bytes) -> bytes:
        """Return a signed request, head and body.

        Args:
            operation: The operation's name, for example `BatchWriteItem`.
            body: The request's body.
        """
        headers = self._signer.headers(f"{_API}.{operation}", body)
        lines = "\r\n".join(map(": ".join, headers.items()))
        head = f"POST {self._target} HTTP/1.1\r\n{lines}\r\ncontent-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def connect(self) -> socket.socket:
        """Return a new connection, through the proxy and TLS if there are any.

        Raises:
            OSError: The connection timed out, the proxy declined, or the certificate is not trusted.
        """
        if self._proxy is None:
            connection = HTTPConnection(self._host, self._port, timeout=CONNECT_SECONDS)
        else:
            connection = HTTPConnection(
                self._proxy.hostname or "", self._proxy.port or 80, timeout=CONNECT_SECONDS
            )
            if self._is_tls:
                connection.set_tunnel(self._host, self._port, headers=_proxy_headers(self._proxy))
        try:
            connection.connect()
        except HTTPException as error:
            raise OSError(f"the proxy answered {error!r}") from error
        if self._context is None:
            return connection.sock
        return self._context.wrap_socket(connection.sock, server_hostname=self._host)


@cache
def default_endpoint() -> DynamoDbEndpoint:
    """Return DynamoDB's endpoint with the address, region and credentials that boto3 finds."""
    session = boto3.Session()
    found = client("dynamodb").meta
    bundle = session._session.get_config_variable("ca_bundle")  # noqa: SLF001  # boto3 has no other way to it
    return DynamoDbEndpoint(
        found.endpoint_url, found.region_name, session.get_credentials(), ca_bundle=bundle
    )


def _tls(ca_bundle: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_bundle or get_cert_path(verify=True))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy_headers(proxy: Any) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
