"""Serve AWS's protocols by ministack, with the ETags that S3 gives under SSE-KMS.

Runs in `.venv-stack`, the only environment that has its packages.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import secrets

from ministack import app
from ministack.services import s3


def _etag_of_a_put(_content: bytes) -> str:
    """Return an ETag that no other put has: under SSE-KMS, equal bytes get a new one at each put."""
    return secrets.token_hex(16)


# Of ministack 1.5.33: all that its S3 takes an MD5 of is an object's or a part's ETag.
s3.md5_hash = _etag_of_a_put

if __name__ == "__main__":
    app.main()
