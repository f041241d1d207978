"""Models that a sensor's tick could not look at: the others go on, and the tick names these."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg

from prediction_contract.errors import RegistryUnavailableError

_LONGEST_ERROR = 300
_LONGEST_REASON = 2000


class ModelsUnreadableError(Exception):
    """Some models could not be looked at, and the tick has nothing else to tell."""


def is_outage(error: Exception) -> bool:
    """Whether AWS or the registry fails as a whole; a record that cannot be read concerns one model."""
    # Not while definitions load.
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    return isinstance(error, BotoCoreError | ClientError | RegistryUnavailableError)


@dataclass(kw_only=True)
class Troubles:
    """What ails single models: the others go on.

    Attributes:
        found: In words, by model.
    """

    found: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def kept(self, model: str, *, is_of_all: Callable[[Exception], bool] = lambda _: False) -> Iterator[None]:
        """Keep an error of one model in place of raising it.

        An error that would be every model's is raised: asking for each in vain takes longer than a tick has.

        Args:
            model: The model's name.
            is_of_all: Whether an error is of that kind, besides outages.
        """
        try:
            yield
        except Exception as error:  # a malformed record raises errors of many kinds
            if is_outage(error) or is_of_all(error):
                raise
            self.found[model] = f"{model} cannot be looked at: {error or type(error).__name__}"[
                :_LONGEST_ERROR
            ]

    def result(
        self,
        seen: str | None,
        said: str,
        *,
        cursor: str | None = None,
        requests: Sequence[dg.RunRequest] = (),
        events: Sequence[dg.AssetObservation | dg.AssetCheckEvaluation] = (),
    ) -> dg.SensorResult:
        """Return what Dagster is to keep of a tick, with the troubles.

        A tick that asks for runs has no reason to give; the next one tells.

        Args:
            seen: The cursor that the tick began with.
            said: What it found, if it asks for no run.
            cursor: The cursor that is kept.
            requests: The runs it asks for.
            events: What it tells of assets.

        Raises:
            ModelsUnreadableError: There is nothing but trouble to tell.
        """
        told = "; ".join(self.found.values())
        if told and not requests and not events and cursor == seen:
            raise ModelsUnreadableError(
                f"{told}. Other models go on; look at the registry's records of this one."[:_LONGEST_REASON]
            )
        reason = f"{said}; {told}" if told else said
        return dg.SensorResult(
            run_requests=list(requests),
            skip_reason=None if requests else reason[:_LONGEST_REASON],
            cursor=cursor,
            asset_events=list(events),
        )
