"""The features of a partition, made of its sources by the model's functions or taken as they are."""

from __future__ import annotations

from prediction_contract.jobs.model_inputs import ModelInputs
from sagemaker_scripts.features.feature_store import FeatureFolder, FeatureSet, PreparedPartition
from sagemaker_scripts.features.source_features import features_of_source
from sagemaker_scripts.features.source_rows import SourceRows
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.sources.source_tables import SourceTables


def prepared_partition(inputs: ModelInputs, sources: SourceTables, partition: str) -> PreparedPartition:
    """Return the features of a partition, and what is known of earlier ones when it begins.

    Args:
        inputs: The model's.
        sources: Its sources.
        partition: Not before the one that these sources were asked for last.

    Raises:
        ContractError: A source is missing or wrong, a function failed, or rows do not name their entities.
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


def write_partition(folder: FeatureFolder, inputs: ModelInputs, sources: SourceTables) -> FeatureSet:
    """Prepare and write the features of a partition. Those that are a source's rows are never held whole.

    Args:
        folder: Where they are written, and whose they are.
        inputs: The model's.
        sources: Its sources, which were asked for no later partition.

    Raises:
        ContractError: As `prepared_partition`.
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
