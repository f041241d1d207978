"""The common part of sensors for all models: the models, errors of single ones, and active run states."""

# No postponed annotations: Dagster compares the context's annotation itself.
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import PUBLICATION
from model_declaration.declaration import ModelDeclaration
from prediction_contract.errors import InvalidNameError, RegistryUnavailableError

# No second run is requested while one is in these states. A run that was created but never queued is not
# among them, because requesting it again queues it.
ACTIVE_RUN_STATES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

_ITEMS_DAYS, _DUE_HOURS, _MODE = "items_days", "due_hours", "publication_mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """The facts about a model that sensors need.

    Attributes:
        name: The model's name.
        partitions: The model's partitions.
        items_life: The lifetime of items in the online table.
        due_after: How long after its end a partition must have a batch; None if nothing is declared.
    """

    name: str
    partitions: dg.PartitionsDefinition[str]
    items_life: timedelta
    due_after: timedelta | None = None


def publication_facts(declaration: ModelDeclaration) -> dict[str, Any]:
    """Return the facts of a declaration that the publication's metadata holds for people and sensors."""
    facts = {
        _MODE: declaration.publication.mode,
        _ITEMS_DAYS: declaration.retention.items_days,
        _DUE_HOURS: declaration.publication.due_hours,
    }
    return {name: value for name, value in facts.items() if value is not None}


def served_models(definitions: dg.Definitions) -> list[ServedModel]:
    """Return all models with a publication among the definitions, sorted by name."""
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
_State = TypeVar("_State")


def parse_cursor(text: str | None, read: Callable[[Any], _State], empty: _State) -> _State:
    """Return the state in a sensor's cursor; `empty` if there is no valid cursor.

    Args:
        text: The cursor.
        read: Returns the state in the cursor's JSON document.
        empty: The state before the first tick.
    """
    try:
        return read(json.loads(text or "{}"))
    except (AttributeError, InvalidNameError, KeyError, TypeError, ValueError):
        return empty


class ModelsUnreadableError(Exception):
    """Some models cannot be examined, and the tick has nothing else to report."""


def is_outage(error: Exception) -> bool:
    """Return whether AWS or the registry as a whole fails, rather than a record of one model."""
    # Imported here, not while definitions load.
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    return isinstance(error, BotoCoreError | ClientError | RegistryUnavailableError)


@dataclass(kw_only=True)
class UnreadableModels:
    """Collects errors of single models, so that a tick can still examine the others.

    Attributes:
        errors: One sentence per model.
    """

    errors: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def collect(
        self, model: str, *, affects_all_models: Callable[[Exception], bool] = lambda _: False
    ) -> Iterator[None]:
        """Collect an error of one model instead of raising it.

        An error that affects every model is raised, because a tick has no time to wait for it once per model.

        Args:
            model: The model's name.
            affects_all_models: Returns whether an error other than an outage affects every model.
        """
        try:
            yield
        except Exception as error:  # a malformed record raises errors of many kinds
            if is_outage(error) or affects_all_models(error):
                raise
            self.errors[model] = f"{model} cannot be examined: {error or type(error).__name__}"[
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
        """Return a tick's result for Dagster, including the collected errors.

        Dagster shows no skip reason if runs are requested; in that case a later tick shows the errors.

        Args:
            previous_cursor: The cursor with which the tick began.
            summary: A summary, shown if no run is requested.
            cursor: The new cursor.
            requests: The runs to request.
            events: Materializations, observations and check results of assets.
            partitions: The dynamic partitions to add.

        Raises:
            ModelsUnreadableError: There are errors and nothing else to report.
        """
        errors = "; ".join(self.errors.values())
        if errors and not requests and not events and cursor == previous_cursor:
            raise ModelsUnreadableError(
                f"{errors}. Other models are not affected. Check the registry's records of the named ones."[
                    :_LONGEST_REASON
                ]
            )
        reason = f"{summary}; {errors}" if errors else summary
        return dg.SensorResult(
            run_requests=list(requests),
            skip_reason=None if requests else reason[:_LONGEST_REASON],
            cursor=cursor,
            asset_events=list(events),
            dynamic_partitions_requests=list(partitions),
        )
