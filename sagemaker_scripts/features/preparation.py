"""Prepares a partition's features: the model's functions make them, or they are a source's rows."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import boto3

from prediction_batches.object_store import AWS_CONFIG, ObjectStore, storage_options
from prediction_contract.jobs.model_inputs import ModelInputs
from sagemaker_scripts.features.feature_store import FeatureFolder, FeatureSet, PreparedPartition
from sagemaker_scripts.features.source_features import features_of_source
from sagemaker_scripts.features.source_rows import SourceRows
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.sources.source_objects import SourceMissingError
from sagemaker_scripts.sources.source_tables import SourceTables

_LOG = logging.getLogger(__name__)


def prepared_partition(inputs: ModelInputs, sources: SourceTables, partition: str) -> PreparedPartition:
    """Return a partition's features, and the outcomes of earlier partitions known when it begins.

    Args:
        inputs: The model's inputs.
        sources: The model's sources.
        partition: The partition; no later one may have been read from these sources.

    Raises:
        ContractError: A source is missing or invalid, a function failed, or rows have no or duplicate
            entities.
    """
    functions = ModelFunctions(inputs)
    tables, reads = sources.read(partition)
    if inputs.prepared is None:
        features = functions.features(partition, tables)
    else:
        rows = SourceRows(inputs.prepared, str(inputs.entity), str(partition), inputs.model)
        features = rows.features(tables[inputs.prepared])
    outcomes = functions.outcomes(partition, tables) if inputs.outcomes else None
    return PreparedPartition(features, outcomes, [each.to_document() for each in reads])


def write_partitions(
    inputs: ModelInputs,
    store: ObjectStore,
    partitions: Sequence[str],
    *,
    run_id: str,
    code_version: str,
    optional: Collection[str] = (),
) -> list[FeatureSet]:
    """Prepare and write the features of partitions one after another, and return them in order.

    Args:
        inputs: The model's inputs.
        store: The data bucket.
        partitions: The partitions in order; gaps are allowed.
        run_id: The run's id, which names the folders.
        code_version: The version of the running code.
        optional: Partitions that are left out if a source has no data for them.

    Raises:
        ContractError: As in `prepared_partition`.
    """
    written: list[FeatureSet] = []
    with SourceTables(
        inputs, store, last=partitions[-1], secret_text=secret_text, storage_options=storage_options()
    ) as sources:
        for partition in partitions:
            folder = FeatureFolder(store, inputs.model, partition, run_id, code_version)
            try:
                written.append(write_partition(folder, inputs, sources))
            except SourceMissingError as error:
                if partition not in optional:
                    raise
                _LOG.info("%s: not prepared, because there is no data: %s", partition, error.what)
                continue
            _LOG.info("%s: %d rows", partition, written[-1].rows)
    return written


def secret_text(name: str) -> str:
    """Return a secret's document, read with the process's own credentials."""
    secrets = boto3.client("secretsmanager", config=AWS_CONFIG)
    return str(secrets.get_secret_value(SecretId=name)["SecretString"])


def write_partition(folder: FeatureFolder, inputs: ModelInputs, sources: SourceTables) -> FeatureSet:
    """Prepare and write the features of a partition; a source's rows are streamed.

    Args:
        folder: The folder to write, with the model and the partition.
        inputs: The model's inputs.
        sources: The model's sources; no later partition may have been read from them.

    Raises:
        ContractError: As in `prepared_partition`.
    """
    partition = folder.partition
    if inputs.prepared is None:
        return folder.write_all(prepared_partition(inputs, sources, partition))
    features, reads = features_of_source(folder, inputs, sources)
    outcomes = None
    if inputs.outcomes:
        functions = ModelFunctions(inputs)
        tables, others = sources.read(partition, functions.sources_of_outcomes())
        outcomes = folder.write("outcomes", functions.outcomes(partition, tables))
        reads = [*reads, *others]
    return folder.finish(features, outcomes, [each.to_document() for each in dict.fromkeys(reads)])
