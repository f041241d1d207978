"""What sensors over all models share: the models, errors of single ones, the states of active runs."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import PUBLICATION
from model_declaration.declaration import ModelDeclaration
from prediction_contract.errors import RegistryUnavailableError

# Runs beside which no second one is requested. A run that was made and never queued is not among them:
# requesting it again is what queues it.
ACTIVE_RUN_STATES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

_ITEMS_DAYS, _DUE_HOURS, _MODE = "items_days", "due_hours", "publication_mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One model as sensors see it.

    Attributes:
        name: The model's name.
        partitions: Its partitions.
        items_life: How long items of the online table live.
        due_after: How long after its end a partition must have a batch; None for no promise.
    """

    name: str
    partitions: dg.PartitionsDefinition[str]
    items_life: timedelta
    due_after: timedelta | None = None


def publication_facts(declaration: ModelDeclaration) -> dict[str, Any]:
    """Return what the publication's metadata says of the declaration, for people and for the sensors."""
    facts = {
        _MODE: declaration.publication.mode,
        _ITEMS_DAYS: declaration.retention.items_days,
        _DUE_HOURS: declaration.publication.due_hours,
    }
    return {name: value for name, value in facts.items() if value is not None}


def served_models(definitions: dg.Definitions) -> list[ServedModel]:
    """Return every model whose publication is among the definitions, by name."""
    found = []
    for assets in definitions.assets or ():
        if not isinstance(assets, dg.AssetsDefinition) or len(assets.keys) != 1:
            continue
        model, name = (*assets.key.path, "")[:2]
        if name != PUBLICATION or assets.partitions_def is None:
            continue
        metadata = assets.metadata_by_key[assets.key]
        due = metadata.get(_DUE_HOURS)
        found.append(
            ServedModel(
                name=model,
                partitions=assets.partitions_def,
                items_life=timedelta(days=int(metadata[_ITEMS_DAYS])),
                due_after=None if due is None else timedelta(hours=float(due)),
            )
        )
    return sorted(found, key=lambda each: each.name)


_LONGEST_ERROR = 300
_LONGEST_REASON = 2000


class ModelsUnreadableError(Exception):
    """Some models could not be looked at, and the tick has nothing else to report."""


def is_outage(error: Exception) -> bool:
    """Whether AWS or the registry fails as a whole; a record that cannot be read concerns one model."""
    # Not while definitions load.
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    return isinstance(error, BotoCoreError | ClientError | RegistryUnavailableError)


@dataclass(kw_only=True)
class UnreadableModels:
    """Errors of single models, which do not keep a tick from looking at the others.

    Attributes:
        errors: One sentence by model.
    """

    errors: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def collect(
        self, model: str, *, is_of_all: Callable[[Exception], bool] = lambda _: False
    ) -> Iterator[None]:
        """Collect an error of one model instead of raising it.

        An error that every model would meet is raised: a tick has no time to meet it once for each.

        Args:
            model: The model's name.
            is_of_all: Whether an error is of that kind, besides outages.
        """
        try:
            yield
        except Exception as error:  # a malformed record raises errors of many kinds
            if is_outage(error) or is_of_all(error):
                raise
            self.errors[model] = f"{model} cannot be looked at: {error or type(error).__name__}"[
                :_LONGEST_ERROR
            ]

    def result(
        self,
        previous_cursor: str | None,
        summary: str,
        *,
        cursor: str | None = None,
        requests: Sequence[dg.RunRequest] = (),
        events: Sequence[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation] = (),
        partitions: Sequence[dg.AddDynamicPartitionsRequest] = (),
    ) -> dg.SensorResult:
        """Return what Dagster is to keep of a tick, the collected errors among it.

        Dagster shows no reason beside run requests: the next tick shows the errors.

        Args:
            previous_cursor: The cursor that the tick began with.
            summary: What it found, if it requests no run.
            cursor: The cursor that is kept.
            requests: The runs it requests.
            events: Materializations, observations and check results of assets.
            partitions: The dynamic partitions that it adds.

        Raises:
            ModelsUnreadableError: There are errors and nothing else to report.
        """
        errors = "; ".join(self.errors.values())
        if errors and not requests and not events and cursor == previous_cursor:
            raise ModelsUnreadableError(
                f"{errors}. Other models go on; look at the registry's records of this one."[:_LONGEST_REASON]
            )
        reason = f"{summary}; {errors}" if errors else summary
        return dg.SensorResult(
            run_requests=list(requests),
            skip_reason=None if requests else reason[:_LONGEST_REASON],
            cursor=cursor,
            asset_events=list(events),
            dynamic_partitions_requests=list(partitions),
        )
