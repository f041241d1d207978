"""A separate process that answers from memory like DynamoDB, a token issuer's keys and a provider.

    python -m benchmarks.canned.canned_serving_store

Prints one JSON line with what a client needs, then serves until it is terminated.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

from prediction_contract.naming.batch import mint_batch_id
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.registry.records import pointer_key, publication_key
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.online_item import OnlineItems
from prediction_contract.stores.serving_record import Enrichment, ServingRecord

ROWS = 1_000
MODEL = "flight_delay"
DEPLOYMENT = Deployment("local", "000000000000", "us-east-1")
ISSUER, CLIENT = "https://issuer.example/pool", "client-1"
_PARTITION = "2013-02-01"
_SCHEMA = PredictionSchema.from_document(
    {
        "key": "entity_id",
        "columns": [
            {"name": "entity_id", "type": "string", "nullable": False},
            {"name": "carrier", "type": "string", "nullable": False},
            {"name": "origin", "type": "string", "nullable": False},
            {"name": "scheduled_departure", "type": "timestamp", "nullable": False},
            {"name": "distance_miles", "type": "long", "nullable": False},
            {"name": "delay_probability", "type": "double", "nullable": False},
            {"name": "expected_delay_minutes", "type": "decimal(7,2)", "nullable": False},
            {"name": "likely_late", "type": "boolean", "nullable": False},
        ],
    }
)


def entity_id(number: int) -> str:
    """Return the id of an entity; `number` is from 0 to `ROWS`."""
    return f"AA-{number}-JFK"


class CannedStore:
    """The canned records and predictions, and the answers made from them."""

    def __init__(self) -> None:
        self.batch_id = mint_batch_id(MODEL, _PARTITION, "benchmark", datetime.now(UTC))
        self.key = generate_private_key(65537, 2048)
        self._items = self._predictions()
        self._records: dict[str, dict[str, Any]] = {}

    def publish(self, *enrichments: Enrichment) -> None:
        """Make the batch live with these enrichments."""
        serving = ServingRecord(_SCHEMA, "v1", ROWS, "0", enrichments).to_json()
        moment = {"S": "2013-02-01T06:00:00Z"}
        shared = {
            "model": {"S": MODEL},
            "batch_id": {"S": self.batch_id},
            "partition": {"S": _PARTITION},
            "sequence": {"N": "1"},
            "published_at": moment,
        }
        self._records = {
            pointer_key(MODEL, DEPLOYMENT.region).record: shared,
            publication_key(MODEL, 1).record: {
                **shared,
                "action": {"S": "publish"},
                "serving": {"S": serving},
            },
        }

    @cached_property
    def tokens(self) -> list[str]:
        """Many different tokens."""
        return [_token(self.key, number) for number in range(ROWS)]

    def get_item(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer GetItem."""
        key = request["Key"]
        found = (
            self._records.get(key["record"]["S"])
            if "record" in key
            else self._items.get(key["entity_id"]["S"])
        )
        return {"Item": found} if found else {}

    def batch_get_item(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer BatchGetItem of one table."""
        ((table, asked),) = request["RequestItems"].items()
        found = (self._items.get(key["entity_id"]["S"]) for key in asked["Keys"])
        return {"Responses": {table: [item for item in found if item]}, "UnprocessedKeys": {}}

    def _predictions(self) -> dict[str, dict[str, Any]]:
        contract, items = row_contract(_SCHEMA), OnlineItems(_SCHEMA)
        built = {}
        for number in range(ROWS):
            line = {
                "entity_id": entity_id(number),
                "carrier": "AA",
                "origin": "JFK",
                "scheduled_departure": "2013-02-01T10:00:00Z",
                "distance_miles": 1000 + number,
                "delay_probability": 0.125 + number / 10_000,
                "likely_late": False,
            }
            text = json.dumps(line)[:-1] + f',"expected_delay_minutes":{number % 60}.25}}'
            row = contract.accept(text.encode())
            built[row.key] = items.build(row, self.batch_id, int(time.time()) + 86_400)
        return built


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _token(key: RSAPrivateKey, number: int = 0) -> str:
    now = int(time.time())
    header = {"alg": "RS256", "kid": "key-1", "typ": "JWT"}
    claims = {"iss": ISSUER, "client_id": CLIENT, "scope": DEPLOYMENT.read_scope, "token_use": "access"}
    parts = (header, {**claims, "jti": str(number), "iat": now, "exp": now + 7_200})
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{_base64url(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def _key_set(key: RSAPrivateKey) -> dict[str, Any]:
    public = key.public_key().public_numbers()
    n, e = (
        _base64url(value.to_bytes((value.bit_length() + 7) // 8, "big")) for value in (public.n, public.e)
    )
    return {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "key-1", "n": n, "e": e}]}


class _Connection(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, store: CannedStore) -> None:
        self._store = store
        self._received = b""
        self._keys = json.dumps(_key_set(store.key)).encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].decode("latin-1")
            lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
            length = int(lines.get("content-length", "0"))
            if len(self._received) < end + 4 + length:
                return
            body = self._received[end + 4 : end + 4 + length]
            self._received = self._received[end + 4 + length :]
            self._answer(head.split(" ", 2)[1], lines.get("x-amz-target", ""), body)

    def _answer(self, path: str, target: str, body: bytes) -> None:
        operation = target.rpartition(".")[2]
        if operation == "getitem":
            answer = json.dumps(self._store.get_item(json.loads(body))).encode()
        elif operation == "batchgetitem":
            answer = json.dumps(self._store.batch_get_item(json.loads(body))).encode()
        elif path == "/jwks.json":
            answer = self._keys
        elif path == "/tokens":
            answer = json.dumps(self._store.tokens).encode()
        elif path == "/enrich":
            self._store.publish(*(Enrichment(**each) for each in json.loads(body)))
            answer = b"{}"
        else:
            answer = b'{"temp":39.02}'
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(answer), answer)
        )


async def _serve() -> None:
    store = CannedStore()
    store.publish()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(store), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ready = {"url": f"http://127.0.0.1:{port}", "token": _token(store.key), "batch_id": store.batch_id}
    sys.stdout.write(f"{json.dumps(ready)}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
