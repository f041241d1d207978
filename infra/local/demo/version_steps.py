"""The demo's steps for one model's versions, with their checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.local.demo.model_versions import require_better_than_baselines
from infra.local.supervision.stack_state import StackError

if TYPE_CHECKING:
    from infra.local.demo.demo_plan import PlannedVersions
    from infra.local.demo.mlpipe_commands import StartedCommand
    from infra.local.demo.model_versions import JudgedVersion, ModelVersions
    from infra.local.demo.progress import DemoProgress


@dataclass(frozen=True)
class VersionSteps:
    """The steps for one model's versions.

    Attributes:
        versions: The model's versions.
        planned: The plan for them.
        progress: Prints the steps.
    """

    versions: ModelVersions
    planned: PlannedVersions
    progress: DemoProgress

    @property
    def replaces(self) -> bool:
        """Whether a second version replaces the first."""
        return len(self.planned.ranges) > 1

    def start_first(self) -> StartedCommand:
        """Start the retraining that makes the first champion.

        A champion left by an interrupted demo is demoted first if it was trained on partitions on which the
        new version is judged.
        """
        champion = self.versions.champion()
        if champion is not None and self._learned_from_held_out(champion):
            with self.progress.step(f"mlpipe demote {self.versions.model}") as found:
                demoted, now = self.versions.demote()
                found.append(
                    f"version {demoted} has learned from partitions that now judge; champion: {now or 'none'}"
                )
            champion = self.versions.champion()
        return self.versions.start_retraining(self._end(0), again=champion is None)

    def await_first(self, retraining: StartedCommand) -> int:
        """Wait for the first champion, which must be better than naive baselines; return its number.

        An earlier demo's champion stays if the training reproduces it or gives nothing better.

        Raises:
            StackError: There is no champion, or it is not better than naive baselines.
        """
        with self.progress.step(self._title(0)) as found:
            judged = self.versions.await_version(retraining)
            champion = self.versions.champion()
            if not judged.is_accepted and champion is not None:
                found.append(f"version {judged.number} is {judged.record.state}: {judged.verdict.reason}")
                judged = champion
            found.extend(_described(judged))
            if self.planned.has_metrics:
                found.append(require_better_than_baselines(judged))
        self._await_promotion(judged)
        return judged.number

    def start_second(self) -> StartedCommand:
        """Start the retraining on the later range, even if an earlier demo has run the same one."""
        return self.versions.start_retraining(self._end(1), again=True)

    def await_second(self, retraining: StartedCommand, champion: int) -> int:
        """Wait for the version that replaces the champion, and return its number.

        Raises:
            StackError: The version was not judged against the champion, or is not better.
        """
        with self.progress.step(self._title(1)) as found:
            judged = self.versions.await_version(retraining)
            found.extend([*_described(judged), judged.verdict.reason])
            if judged.number == champion or judged.record.judged_against != champion:
                raise StackError(
                    f"{retraining.line} made version {judged.number}, compared with version"
                    f" {judged.record.judged_against}; expected a new version, compared with the champion,"
                    f" version {champion}",
                    remedy=f"See `mlpipe models {self.versions.model}`",
                )
            if not judged.is_accepted:
                raise StackError(
                    f"Version {judged.number} is {judged.record.state}: {judged.verdict.reason}",
                    remedy=f"See `mlpipe models {self.versions.model}`",
                )
        self._await_promotion(judged)
        return judged.number

    def demote(self, withdrawn: int, champion: int) -> None:
        """Withdraw the second version; the first one must be the champion again."""
        with self.progress.step(f"mlpipe demote {self.versions.model}") as found:
            demoted, now = self.versions.demote()
            if (demoted, now) != (withdrawn, champion):
                raise StackError(
                    f"mlpipe demote replaced version {demoted} by {now} instead of {withdrawn} by {champion}",
                    remedy=f"See `mlpipe models {self.versions.model}`",
                )
            found.append(f"version {demoted} was withdrawn, version {now} is champion again")

    def _await_promotion(self, judged: JudgedVersion) -> None:
        by = "by rule" if self.planned.is_approved_by_rule else "by a person"
        with self.progress.step(f"version {judged.number} of {self.versions.model} promoted {by}"):
            if judged.waits_for_approval and self.planned.is_approved_by_rule:
                raise StackError(
                    f"Version {judged.number} waits for a person's approval: {judged.verdict.reason}",
                    remedy=f"See `mlpipe models {self.versions.model}`",
                )
            if judged.waits_for_approval:
                self.versions.promote(judged.number)
            self.versions.await_champion(judged.number)

    def _learned_from_held_out(self, champion: JudgedVersion) -> bool:
        """Return whether a version has learned from the partitions on which the first version is judged."""
        held_out, learned = self.planned.ranges[0].first_held_out, champion.record.trained_until
        return held_out is not None and learned is not None and learned >= held_out

    def _end(self, number: int) -> str:
        return str(self.planned.ranges[number].newest)

    def _title(self, number: int) -> str:
        return f"mlpipe retrain {self.versions.model} --last {self._end(number)}"


def _described(judged: JudgedVersion) -> list[str]:
    verdict = judged.verdict
    learned = f"version {judged.number} learned from partitions up to {verdict.trained_until}"
    if verdict.first_held_out is None:
        return [learned]
    return [learned, f"judged on {verdict.first_held_out} to {verdict.last_held_out}"]
