"""A client of Dagster's GraphQL interface: launches runs, follows them, finds why they failed."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from infra.local.supervision.stack_state import StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from infra.local.stack.dagster_service import DagsterService

_Found = TypeVar("_Found")
_REPOSITORY = "__repository__"
_IMPLICIT_JOB = "__ASSET_JOB"
_ANSWER_SECONDS = 60
_PAUSE_SECONDS = 0.5
_FAILED = frozenset({"FAILURE", "CANCELED"})
_UNDER_WAY = ("STARTING", "STARTED", "CANCELING")

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on Error { message }
  }
}
"""
_RUN_FIELDS = "runId jobName status startTime endTime tags { key value }"
_RUN = f"query Run($id: ID!) {{ runOrError(runId: $id) {{ ... on Run {{ {_RUN_FIELDS} }} }} }}"
_RUNS = f"""
query Runs($filter: RunsFilter!) {{
  runsOrError(filter: $filter, limit: 100) {{ ... on Runs {{ results {{ {_RUN_FIELDS} }} }} }}
}}
"""
_CANCEL = """
mutation Cancel($ids: [String!]!) {
  terminateRuns(runIds: $ids, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY) {
    __typename
    ... on TerminateRunsResult { terminateRunResults { __typename } }
    ... on Error { message }
  }
}
"""
_FAILURES = """
query Failures($id: ID!) {
  logsForRun(runId: $id, limit: 1000) {
    ... on EventConnection {
      events {
        ... on ExecutionStepFailureEvent { stepKey error { message causes { message } } }
        ... on RunFailureEvent { message error { message } }
      }
    }
  }
}
"""
_MATERIALIZATION = """
query Latest($key: AssetKeyInput!) {
  assetOrError(assetKey: $key) {
    ... on Asset {
      assetMaterializations(limit: 1) {
        runId
        metadataEntries {
          label
          ... on TextMetadataEntry { text }
          ... on IntMetadataEntry { intRepr }
          ... on JsonMetadataEntry { jsonString }
        }
      }
    }
  }
}
"""
_SENSOR = """
query Sensor($selector: SensorSelector!) {
  sensorOrError(sensorSelector: $selector) { ... on Sensor { sensorState { status } } }
}
"""


@dataclass(frozen=True)
class Run:
    """A Dagster run as last read.

    Attributes:
        run_id: The run's id.
        job: The run's job.
        status: `QUEUED`, `STARTED`, `SUCCESS`, `FAILURE` ...
        tags: The run's tags.
    """

    run_id: str
    job: str
    status: str
    tags: Mapping[str, str]

    @property
    def has_failed(self) -> bool:
        """Whether the run failed or was cancelled, and no automatic retry follows."""
        return self.status in _FAILED and self.tags.get("dagster/will_retry") != "true"

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Run:
        """Return the run of a GraphQL document."""
        tags = {tag["key"]: tag["value"] for tag in found["tags"]}
        return cls(found["runId"], found["jobName"], found["status"], tags)


@dataclass(frozen=True)
class Dagster:
    """A client of Dagster's web server.

    Attributes:
        service: The running Dagster.
        location: The name of the project's code location.
    """

    service: DagsterService
    location: str

    def launch_job(
        self, job: str, *, partition: str | None = None, config: Mapping[str, Any] | None = None
    ) -> str:
        """Start a run of a job and return its id.

        Args:
            job: The job's name.
            partition: The partition of a partitioned job.
            config: The run config.

        Raises:
            StackError: Dagster refused to start the run.
        """
        tags = {} if partition is None else {"dagster/partition": partition}
        return self._launch({"jobName": job}, tags, config)

    def launch_assets(self, assets: Sequence[str], *, first: str, last: str) -> str:
        """Start one run that materializes assets, partitioned ones for a range of partitions; return its id.

        Args:
            assets: The assets' keys, such as `churn/features`.
            first: The first partition.
            last: The last partition, inclusive.

        Raises:
            StackError: Dagster refused to start the run.
        """
        selection = [{"path": asset.split("/")} for asset in assets]
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return self._launch({"jobName": _IMPLICIT_JOB, "assetSelection": selection}, tags)

    def await_run(self, run_id: str, *, seconds: float, what: str) -> Run:
        """Wait until a run succeeded.

        Raises:
            StackError: The run failed, or the deadline passed.
        """

        def look() -> Run | None:
            run = self.run(run_id)
            if run.status in _FAILED:
                raise self.failure(run, what)
            return run if run.status == "SUCCESS" else None

        return wait_for(look, seconds=seconds, what=f"{what} (run {run_id})", reason_at=self.page(run_id))

    def run(self, run_id: str) -> Run:
        """Return a run."""
        self.service.require_running()
        return Run.of(self._ask(_RUN, {"id": run_id})["runOrError"])

    def newest_run(self, job: str, tags: Mapping[str, str]) -> Run | None:
        """Return the newest run of a job with these tags, or None."""
        self.service.require_running()
        wanted = [{"key": key, "value": value} for key, value in tags.items()]
        answer = self._ask(_RUNS, {"filter": {"pipelineName": job, "tags": wanted}})
        results = answer["runsOrError"]["results"]
        return Run.of(results[0]) if results else None

    def cancel_dead_runs(self) -> int:
        """Mark runs from before this Dagster's start as cancelled, and return their number.

        Their processes ended with the earlier Dagster, but the launcher cannot detect that. Without this they
        would count as running for hours and block new runs.
        """
        before = {"statuses": list(_UNDER_WAY), "updatedBefore": self.service.started_at}
        dead = [found["runId"] for found in self._ask(_RUNS, {"filter": before})["runsOrError"]["results"]]
        if dead:
            answer = self._ask(_CANCEL, {"ids": dead})["terminateRuns"]
            if answer["__typename"] != "TerminateRunsResult":
                raise StackError(
                    f"Dagster could not cancel the runs {', '.join(dead)}: {json.dumps(answer)[:2000]}",
                    remedy=f"Cancel them at {self.service.url}/runs",
                )
        return len(dead)

    def failure(self, run: Run, what: str) -> StackError:
        """Return an error with the reason why a run failed."""
        answer = self._ask(_FAILURES, {"id": run.run_id})
        reasons = []
        for event in answer["logsForRun"].get("events", ()):
            error = event.get("error")
            if error:
                reasons += [
                    error["message"].strip(),
                    *(cause["message"].strip() for cause in error.get("causes", ())),
                ]
        return StackError(
            f"{what}: run {run.run_id} of {run.job} is {run.status}: {' / '.join(reasons)[-3000:]}",
            remedy=f"See {self.page(run.run_id)} while Dagster runs, and {self.service.log}",
        )

    def materialization(self, asset: str) -> dict[str, str]:
        """Return the metadata texts of an asset's newest materialization by label; empty if there is none."""
        answer = self._ask(_MATERIALIZATION, {"key": {"path": asset.split("/")}})
        found = answer["assetOrError"].get("assetMaterializations") or [{"metadataEntries": []}]
        return {
            entry["label"]: entry.get("text") or entry.get("intRepr") or entry.get("jsonString") or ""
            for entry in found[0]["metadataEntries"]
        }

    def sensor_runs(self, sensor: str) -> bool:
        """Return whether a sensor is switched on in Dagster."""
        selector = {
            "repositoryLocationName": self.location,
            "repositoryName": _REPOSITORY,
            "sensorName": sensor,
        }
        state = self._ask(_SENSOR, {"selector": selector})["sensorOrError"].get("sensorState")
        return bool(state) and state["status"] == "RUNNING"

    def page(self, run_id: str) -> str:
        """Return the address of a run's web page."""
        return f"{self.service.url}/runs/{run_id}"

    def _launch(
        self,
        selector: Mapping[str, Any],
        tags: Mapping[str, str],
        config: Mapping[str, Any] | None = None,
    ) -> str:
        params = {
            "selector": {
                "repositoryLocationName": self.location,
                "repositoryName": _REPOSITORY,
                **selector,
            },
            "runConfigData": config or {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self._ask(_LAUNCH, {"params": params})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise StackError(
                f"Dagster refused to start {selector}: {json.dumps(answer)[:2000]}",
                remedy=f"See {self.service.log}",
            )
        return str(answer["run"]["runId"])

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Send a query and return the answer's data.

        Raises:
            StackError: There is none.
        """
        request = urllib.request.Request(  # noqa: S310  # the loopback address of our own web server
            f"{self.service.url}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_ANSWER_SECONDS) as response:
                answer = json.loads(response.read())
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")[:2000]
            raise StackError(
                f"Dagster refused a query: {error.code} {reason}", remedy=f"See {self.service.log}"
            ) from error
        except (OSError, ValueError) as error:
            raise StackError(
                f"Dagster did not answer at {self.service.url}: {error}", remedy=f"See {self.service.log}"
            ) from error
        if answer.get("errors"):
            raise StackError(
                f"Dagster refused a query: {json.dumps(answer['errors'])[:2000]}",
                remedy=f"See {self.service.log}",
            )
        return answer["data"]


def wait_for(
    find: Callable[[], _Found | None],
    *,
    seconds: float,
    what: str,
    reason_at: str,
    pause_seconds: float = _PAUSE_SECONDS,
) -> _Found:
    """Call `find` until it returns a value, and return the value.

    Args:
        find: Returns the value, or None as long as there is none.
        seconds: The deadline.
        what: Describes the awaited thing, for the message.
        reason_at: Where the user can find the reason for a failure, for the message.
        pause_seconds: The pause between two calls.

    Raises:
        StackError: The deadline passed.
    """
    deadline = time.monotonic() + seconds
    while (found := find()) is None:
        if time.monotonic() > deadline:
            raise StackError(f"{what} took longer than {seconds:.0f} s", remedy=f"See {reason_at}")
        time.sleep(pause_seconds)
    return found
