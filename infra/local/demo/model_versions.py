"""One model's versions: retrained, judged, promoted by rule or by a person, demoted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.local.stack.dagster_runs import wait_for
from infra.local.supervision.stack_state import StackError
from prediction_contract.jobs.verdict import Verdict
from prediction_contract.registry.version_records import VersionState

if TYPE_CHECKING:
    from infra.local.demo.demo_stores import Stores
    from infra.local.demo.mlpipe_commands import MlpipeCommands, StartedCommand
    from prediction_contract.registry.version_records import ModelVersion

_RETRAINING_SECONDS = 420
# The sensor of model versions reads events every few seconds, and lists all packages every three minutes.
_PROMOTION_SECONDS = 240
_ACCEPTED = (VersionState.CANDIDATE, VersionState.APPROVED, VersionState.CHAMPION)
_REASON = ("--reason", "shown by mlpipe demo")


@dataclass(frozen=True)
class JudgedVersion:
    """A version and its verdict.

    Attributes:
        record: The registry's record.
        verdict: The verdict of the retraining that made it.
    """

    record: ModelVersion
    verdict: Verdict

    @property
    def number(self) -> int:
        """The version's number."""
        return self.record.version

    @property
    def waits_for_approval(self) -> bool:
        """Whether the version waits for a person's approval."""
        return self.record.state == VersionState.CANDIDATE

    @property
    def is_accepted(self) -> bool:
        """Whether the version is the champion or may become it: it was neither refused nor replaced."""
        return self.record.state in _ACCEPTED


@dataclass(frozen=True)
class ModelVersions:
    """The versions of one model.

    Attributes:
        model: The model.
        stores: The stores with the results of retrainings.
        commands: The `mlpipe` command.
    """

    model: str
    stores: Stores
    commands: MlpipeCommands

    def champion(self) -> JudgedVersion | None:
        """Return the version that scores new batches, or None."""
        pointer = self.stores.registry.champion(self.model)
        return self._judged(pointer.version) if pointer and pointer.version is not None else None

    def start_retraining(self, last: str, *, again: bool = False) -> StartedCommand:
        """Start a retraining.

        Args:
            last: The last partition on which to judge the version.
            again: Whether to train again if an earlier demo has run the same retraining.
        """
        repeated = ("--again",) if again else ()
        return self.commands.start("retrain", self.model, "--last", last, *repeated, "--yes", "--wait")

    def await_version(self, retraining: StartedCommand) -> JudgedVersion:
        """Wait for a retraining, and return its version, or the champion if training reproduced it.

        Raises:
            StackError: The retraining failed, or made no version.
        """
        number = retraining.answer(seconds=_RETRAINING_SECONDS)["version"]
        judged = self.champion() if number is None else self._judged(number)
        if judged is None:
            raise StackError(
                f"{retraining.line} registered no version", remedy=f"See `mlpipe models {self.model}`"
            )
        return judged

    def promote(self, version: int) -> None:
        """Approve a version and make it the champion, as a person does."""
        self.commands.run("promote", self.model, str(version), *_REASON)

    def await_champion(self, version: int) -> None:
        """Wait until a version is the champion.

        Raises:
            StackError: The version did not become the champion in time.
        """

        def look() -> bool | None:
            pointer = self.stores.registry.champion(self.model)
            return True if pointer and pointer.version == version else None

        wait_for(
            look,
            seconds=_PROMOTION_SECONDS,
            what=f"The promotion of version {version} of {self.model}",
            reason_at=f"`mlpipe models {self.model}`",
        )

    def demote(self) -> tuple[int, int | None]:
        """Withdraw the champion; return its number and the new champion's number."""
        answer = self.commands.run("demote", self.model, *_REASON)
        return answer["version"], answer["after"]["version"]

    def _judged(self, version: int) -> JudgedVersion:
        record = self.stores.registry.model_version(self.model, version)
        if record is None or record.verdict_key is None:
            raise StackError(
                f"Version {version} of {self.model} has no verdict of a retraining",
                remedy=f"See `mlpipe models {self.model}`",
            )
        return JudgedVersion(record, Verdict.parse(self.stores.content(record.verdict_key)))


def require_better_than_baselines(judged: JudgedVersion) -> str:
    """Return a version's figures on held-out partitions as text; they must beat every naive baseline.

    Raises:
        StackError: There was no comparison, or a baseline is at least as good.
    """
    metrics = judged.verdict.metrics
    report = "; ".join(
        f"{metric.name} {metric.candidate:g}, {'' if metric.beats_baselines else 'NOT '}better than"
        f" {' and '.join(f'{value:g} of {name}' for name, value in metric.baselines.items())}"
        for metric in metrics
    )
    if not metrics or not all(metric.beats_baselines for metric in metrics):
        raise StackError(
            f"Version {judged.number} of {judged.record.model} does not beat the naive baselines:"
            f" {report or 'it was not judged'}",
            remedy=f"See `mlpipe models {judged.record.model}`",
        )
    return report
