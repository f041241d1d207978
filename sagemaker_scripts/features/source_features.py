"""Features that are a source's rows: Parquet files are used in place, other formats are copied in batches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa

from prediction_contract.errors import InvalidNameError
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.manifests.manifest import InputObject
from prediction_contract.naming.s3_layout import validated_key
from sagemaker_scripts.features.entity_keys import EntityKeys
from sagemaker_scripts.features.feature_files import FeatureFile
from sagemaker_scripts.features.feature_store import FeatureFolder
from sagemaker_scripts.features.files_elsewhere import RowsElsewhere
from sagemaker_scripts.features.source_rows import SourceRows, with_partition
from sagemaker_scripts.sources.source_objects import SourceFile, SourceFiles, SourceRead, save_object
from sagemaker_scripts.sources.source_pieces import SourcePiece, aligned, joined_pieces
from sagemaker_scripts.sources.source_tables import SourceTables


def features_of_source(
    folder: FeatureFolder, inputs: ModelInputs, sources: SourceTables
) -> tuple[tuple[FeatureFile, ...], list[SourceRead]]:
    """Return the files of a partition's features, and the records of what was read.

    Args:
        folder: The folder for new files, with the model and the partition.
        inputs: The inputs of a model whose features are a source's rows.
        sources: The model's sources; no later partition may have been read from them.

    Raises:
        SourceError: The source has no data for the partition, or does not match its declaration.
        EntityRowsError: A row has no entity, or an entity has several rows.
    """
    (source,) = (each for each in inputs.sources if each.name == inputs.prepared)
    rows = SourceRows(source.name, str(inputs.entity), str(folder.partition), inputs.model)
    found = sources.files(source.name, folder.partition)
    with EntityKeys(rows) as keys:
        if found is not None and _have_valid_keys(found):
            elsewhere = RowsElsewhere(rows, source.columns, source.known_at, found.given)
            files, reads = _features_in_place(folder, elsewhere, found, keys), found.reads
        else:
            reads = list[SourceRead]()
            batches = sources.stream(source.name, folder.partition, reads)
            files = _written(folder, rows, batches, keys)
        keys.refuse_duplicates(folder.store, files)
    return files, reads


def _have_valid_keys(found: SourceFiles) -> bool:
    """Tell whether a manifest may name the files."""
    try:
        for file in found.files:
            validated_key(file.object.key)
    except InvalidNameError:
        return False
    return True


def _features_in_place(
    folder: FeatureFolder, elsewhere: RowsElsewhere, found: SourceFiles, keys: EntityKeys
) -> tuple[FeatureFile, ...]:
    """Return a source's files with rows, after reading each once for its digest, entities and row groups."""
    files: list[FeatureFile] = []
    pieces: list[SourcePiece] = []
    before = 0
    with tempfile.TemporaryDirectory(prefix="features-") as temporary:
        path = Path(temporary, "rows.parquet")
        for each in found.files:
            digest = save_object(folder.store.with_bucket(each.object.bucket), each.object, path)
            columns, groups = _measured(path, each, elsewhere, keys, before)
            before += sum(groups)
            pieces.append(SourcePiece(columns, [], each.object.address))
            if any(groups):
                bucket = None if each.object.bucket == folder.store.bucket else each.object.bucket
                named = InputObject(each.object.key, digest, bucket)
                files.append(FeatureFile(named, groups, elsewhere, each.constants))
    schema = joined_pieces(pieces, elsewhere.rows.source).schema
    if not files:
        return folder.write("features", schema.empty_table())
    return tuple(replace(file, elsewhere=replace(elsewhere, schema=schema)) for file in files)


def _measured(
    path: Path, source: SourceFile, elsewhere: RowsElsewhere, keys: EntityKeys, before: int
) -> tuple[pa.Table, tuple[int, ...]]:
    """Return an empty table of a file's features, and the number of features in each row group."""
    groups: list[int] = []
    first_row = 0
    where = source.object.address
    with elsewhere.opened(path, where) as file:
        columns = elsewhere.empty_features(file.schema_arrow, where)
        for number in range(file.num_row_groups):
            groups.append(0)
            for features in elsewhere.group(
                file, number, where, source.constants, first_row=first_row, first_feature=before
            ):
                keys.add(features)
                groups[-1] += features.num_rows
            first_row += file.metadata.row_group(number).num_rows
            before += groups[-1]
    return columns, tuple(groups)


def _written(
    folder: FeatureFolder, rows: SourceRows, batches: Iterator[pa.Table], keys: EntityKeys
) -> tuple[FeatureFile, ...]:
    """Write a source's rows as they come, and return the files."""
    first = next(batches)
    schema = with_partition(rows.features(first.slice(0, 0)), rows.partition).schema
    count = 0
    with folder.writer("features", schema) as writer:
        for batch in chain([first], batches):
            features = with_partition(rows.features(batch, count), rows.partition)
            keys.add(features)
            count += features.num_rows
            writer.write(aligned(features, schema, rows.source))
        return writer.close()
