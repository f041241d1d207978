"""Real flights of a few days from the installed example package, for unit tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, NoReturn

from flights.sample_data import day_files, flight_lines

from prediction_batches.object_store import ObjectStore
from sagemaker_scripts.features.preparation import prepared_partition
from sagemaker_scripts.sources.source_tables import SourceTables
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.declared_models import INPUTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sagemaker_scripts.features.feature_store import PreparedPartition

FIRST = date(2013, 1, 1)
LAST = date(2013, 1, 12)


@cache
def _files() -> dict[str, bytes]:
    return {str(day): content for day, content in day_files(flight_lines(), FIRST, LAST)}


def stored_days(days: Iterable[str]) -> ObjectStore:
    """Return an in-memory bucket with the flights of the given days."""
    objects = {f"raw/nycflights13/flights/dt={day}/flights.csv.gz": _files()[day] for day in days}
    return ObjectStore(MemoryS3(objects), "mlpipe-data")


def prepared_days(model: str, days: list[str], history: int) -> list[PreparedPartition]:
    """Prepare days as the features job does, each with a history of the given length."""
    (source,) = INPUTS[model].sources
    inputs = replace(INPUTS[model], sources=(replace(source, history=history),))
    store = stored_days(_files())
    with SourceTables(inputs, store, last=days[-1], secret_text=_no_secret, storage_options={}) as sources:
        return [prepared_partition(inputs, sources, day) for day in days]


def _no_secret(name: str) -> NoReturn:
    raise AssertionError(name)
