"""Tests of a folder that replaces a bucket: the same calls give the same answers."""

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
    """Give a client of a folder with three files of two days, and one file outside it."""
    folder = tmp_path / "bucket"
    for key in ("raw/dt=1/a.csv", "raw/dt=1/b.csv", "raw/dt=2/a.csv"):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(key.encode())
    (tmp_path / "beside").write_bytes(b"no object")
    return FolderClient(folder)


@pytest.mark.parametrize("key", ["../beside", "raw//dt=1/a.csv", "./raw/dt=1/a.csv", "/etc/hostname"])
def test_key_that_is_a_path_is_missing(client: FolderClient, key: str) -> None:
    """Absolute or unnormalized paths find no object, as in a bucket."""
    store = ObjectStore(client, "any")
    assert store.find(key) is None
    assert store.listing("/etc/host") == []


def test_files_are_read_and_listed_as_objects(client: FolderClient) -> None:
    """Content, listings and folders are those of a bucket with the same keys."""
    store = ObjectStore(client, "any")
    assert store.get("raw/dt=1/b.csv") == b"raw/dt=1/b.csv"
    assert store.find("raw/dt=3/a.csv") is None
    assert [entry.key for entry in store.listing("raw/dt=1")] == ["raw/dt=1/a.csv", "raw/dt=1/b.csv"]
    assert [entry.key for entry in store.listing("raw/dt=2/a")] == ["raw/dt=2/a.csv"]
    assert store.folders("raw/") == ["dt=1", "dt=2"]
    assert store.listing("nowhere/") == []
    with pytest.raises(InputMissingError, match="raw/dt=3"):
        store.get("raw/dt=3/a.csv")


def test_range_of_a_changed_file_is_refused(client: FolderClient, tmp_path: Path) -> None:
    """A range is read only while the file has the given ETag."""
    etag = client.head_object(Bucket="any", Key="raw/dt=1/a.csv")["ETag"]
    asked = {"Bucket": "any", "Key": "raw/dt=1/a.csv", "Range": "bytes=4-7", "IfMatch": etag}
    assert client.get_object(**asked)["Body"].read() == b"dt=1"
    (tmp_path / "bucket" / "raw" / "dt=1" / "a.csv").write_bytes(b"written anew")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.get_object(**asked)


def test_files_outside_the_folder_are_missing(client: FolderClient) -> None:
    """A key cannot leave the folder."""
    store = ObjectStore(client, "any")
    assert store.find("../beside") is None
    assert store.listing("../") == []
