"""The batch that a command line names: by model and batch id, or by the batch id alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.done_files.registration import UnknownBatchError
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import BatchId
from prediction_contract.registry.records import BatchRecord


def add_named_batch(command: argparse.ArgumentParser) -> None:
    """Add the words that name a batch."""
    command.add_argument(
        "batch", nargs="+", metavar="[model] batch", help="the batch, as `mlpipe batches` names it"
    )


def named_batch(words: Sequence[str], access: DeploymentAccess) -> BatchRecord:
    """Return the record of the batch that one or two words name.

    Raises:
        InvalidNameError: The words have another form.
        UndeclaredModelError: No model of this name is declared.
        UnknownBatchError: The registry does not know the batch.
    """
    match words:
        case [model, batch_id]:
            return access.known_batch(model, batch_id)
        case [batch_id]:
            return _batch_of_any_model(BatchId(batch_id), access)
        case _:
            raise InvalidNameError(
                f"{len(words)} words do not name a batch", remedy="Give a batch id, or a model and a batch id"
            )


def is_batch_id(word: str) -> bool:
    """Return whether a word has the form of a batch id."""
    try:
        BatchId(word)
    except InvalidNameError:
        return False
    return True


def _batch_of_any_model(batch_id: str, access: DeploymentAccess) -> BatchRecord:
    registry = access.registry
    # A read of some milliseconds for each model. A batch id is hashed of its model too: no two have the same.
    for model in access.models():
        if record := registry.batch(model, batch_id):
            return record
    raise UnknownBatchError(
        "No declared model has this batch",
        remedy="See `mlpipe batches <model>`, or load its done file with `mlpipe load`",
        batch_id=batch_id,
    )
