"""A folder stands in for a bucket: jobs read it by the same calls, and find the same answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from prediction_batches.object_store import InputMissingError, ObjectStore
from sagemaker_scripts.trials.folder_client import FolderClient

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def client(tmp_path: Path) -> FolderClient:
    """A folder with three files of two days, and one file beside it."""
    folder = tmp_path / "bucket"
    for key in ("raw/dt=1/a.csv", "raw/dt=1/b.csv", "raw/dt=2/a.csv"):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(key.encode())
    (tmp_path / "beside").write_bytes(b"no object")
    return FolderClient(folder)


@pytest.mark.parametrize("key", ["../beside", "raw//dt=1/a.csv", "./raw/dt=1/a.csv", "/etc/hostname"])
def test_a_key_that_a_bucket_would_not_know_is_missing(client: FolderClient, key: str) -> None:
    """A trial finds no object that a job would not find."""
    store = ObjectStore(client, "any")
    assert store.find(key) is None
    assert store.listing("/etc/host") == []


def test_files_are_objects(client: FolderClient) -> None:
    """Bytes, listings and folders are those of a bucket with the same keys."""
    store = ObjectStore(client, "any")
    assert store.get("raw/dt=1/b.csv") == b"raw/dt=1/b.csv"
    assert store.find("raw/dt=3/a.csv") is None
    assert [entry.key for entry in store.listing("raw/dt=1")] == ["raw/dt=1/a.csv", "raw/dt=1/b.csv"]
    assert [entry.key for entry in store.listing("raw/dt=2/a")] == ["raw/dt=2/a.csv"]
    assert store.folders("raw/") == ["dt=1", "dt=2"]
    assert store.listing("nowhere/") == []
    with pytest.raises(InputMissingError, match="raw/dt=3"):
        store.get("raw/dt=3/a.csv")


def test_ranges_are_of_the_version_that_was_listed(client: FolderClient, tmp_path: Path) -> None:
    """A range is answered as long as the file is the one that was listed."""
    etag = client.head_object(Bucket="any", Key="raw/dt=1/a.csv")["ETag"]
    asked = {"Bucket": "any", "Key": "raw/dt=1/a.csv", "Range": "bytes=4-7", "IfMatch": etag}
    assert client.get_object(**asked)["Body"].read() == b"dt=1"
    (tmp_path / "bucket" / "raw" / "dt=1" / "a.csv").write_bytes(b"written anew")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.get_object(**asked)


def test_files_beside_the_folder_are_none_of_its_objects(client: FolderClient) -> None:
    """A key cannot climb out of the folder."""
    store = ObjectStore(client, "any")
    assert store.find("../beside") is None
    assert store.listing("../") == []
