"""Replaces queries by files of their results, because sample data cannot run SQL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from prediction_contract.errors import ContractError
from prediction_contract.jobs.model_inputs import FILE_FORMATS, ModelInputs, Source

QUERIES = "queries/"


class SampleQueryError(ContractError):
    """The sample data has no result for a query."""


def with_sample_queries(inputs: ModelInputs, keys: Iterable[str]) -> ModelInputs:
    """Return a model's inputs with each query replaced by the files of its results.

    The result for a partition is at `queries/<source>/<partition>.csv`, or `.jsonl` or `.parquet`.

    Raises:
        SampleQueryError: A query has no result.
    """
    known = list(keys)
    sources = tuple(
        _of_files(source, known) if source.format == "snowflake" else source for source in inputs.sources
    )
    return replace(inputs, sources=sources)


def _of_files(source: Source, keys: list[str]) -> Source:
    folder = f"{QUERIES}{source.name}/"
    for file_format in FILE_FORMATS:
        if any(key.startswith(folder) and key.endswith(f".{file_format}") for key in keys):
            # A query whose parameters are the same for all partitions has one result.
            varies = any("{" in text for _, text in source.parameters)
            path = f"{folder}{'{partition}' if varies else 'all'}.{file_format}"
            return replace(source, format=file_format, path=path, query="", parameters=(), secret=None)
    raise SampleQueryError(
        f"The sample data has no result for the query of source {source.name}",
        remedy=f"Let the generator yield {folder}<partition>.csv, or {folder}all.csv for a query without "
        "placeholders; or pass --bucket, which queries Snowflake",
    )
