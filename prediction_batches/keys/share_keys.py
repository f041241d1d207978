"""Digests of the keys of one share's rows, 16 bytes each, in the order of the rows."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection
from types import TracebackType
from typing import Self

import pyarrow as pa

from prediction_batches.files.share_location import ShareLocation
from prediction_contract.manifests.manifest import InputObject
from prediction_contract.rows.key_digests import DIGEST_BYTES, NO_KEY


class ShareKeys:
    """Collects the digests of keys in a temporary file; as a context manager, it deletes the file.

    Args:
        location: The share.
    """

    def __init__(self, location: ShareLocation) -> None:
        self._location = location
        self._file = tempfile.TemporaryFile(prefix="mlpipe-keys-")  # noqa: SIM115  # this class closes it
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, keys: pa.Array, refused: Collection[int]) -> None:
        """Add rows.

        Args:
            keys: The key of each row.
            refused: The numbers, from 0, of rows that the load refuses already; their keys are ignored.
        """
        # Copying an empty state is a fifth faster than calling the constructor with keywords.
        fresh = hashlib.blake2b(digest_size=DIGEST_BYTES).copy
        digests = []
        for key in keys.fill_null("").cast(pa.binary()).to_pylist():
            state = fresh()
            state.update(key)
            digests.append(state.digest())
        for number in refused:
            digests[number] = NO_KEY
        joined = b"".join(digests)
        self._file.write(joined)
        self._digest.update(joined)

    def close(self) -> InputObject:
        """Upload the digests, and return their object.

        Raises:
            ShareConflictError: The object exists with the digests of other rows.
        """
        key = self._location.keys_key
        own = InputObject(key, self._digest.hexdigest())
        if not self._location.store.put_new(key, self._file):
            with tempfile.TemporaryFile() as found:
                if self._location.store.save(key, found) != own.sha256:
                    raise self._location.conflict(key)
        return own
