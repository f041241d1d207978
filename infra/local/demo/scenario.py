"""The steps of the demo in their order, and the checks that must succeed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.local.access_token import obtain_token, read_variables
from infra.local.demo.demo_plan import DemoPlan, PlannedVersions, planned_versions
from infra.local.demo.demo_stores import BatchRows, Stores
from infra.local.demo.live_api import LiveApi, ServedAnswer
from infra.local.demo.mlpipe_commands import MlpipeCommands
from infra.local.demo.model_path import Delivered, ModelPath
from infra.local.demo.model_versions import ModelVersions
from infra.local.demo.progress import DemoProgress
from infra.local.demo.version_steps import VersionSteps
from infra.local.sample_data import upload_sample_data
from infra.local.stack.command_line import ChosenStack
from infra.local.stack.dagster_runs import Dagster, wait_for
from infra.local.stack.dagster_service import (
    DagsterService,
    await_ready,
    dagster_environment,
    running_dagster,
)
from infra.local.stack.environment_file import read_environment_file
from infra.local.stack.stack_control import StackControl
from infra.local.supervision.stack_state import StackError
from model_declaration.declaration_files import declaration_of

_SENSOR = "done_files"
_SENSOR_SECONDS = 120
_OK, _UNAUTHORIZED, _NOT_FOUND = 200, 401, 404
# The name of a table's first column, by the kind of the model's partitions.
_UNITS = {"hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month"}


@dataclass(frozen=True)
class Demo:
    """The demo on one stack.

    Attributes:
        stack: The stack.
        plan: The demo's plan.
        progress: Prints the steps.
    """

    stack: ChosenStack
    plan: DemoPlan
    progress: DemoProgress

    def run(self) -> dict[str, Any]:
        """Run all steps; return the result for the final JSON line.

        Raises:
            StackError: A check failed, or the stack or Dagster does not run.
        """
        planned = planned_versions(self.stack.project, self.plan)
        declared = declaration_of(self.plan.model, self.stack.project.defs)
        self._start_stack()
        variables = read_environment_file(self.stack.environment_file)
        with running_dagster(
            self.stack.directory, self.stack.project, variables, say=self.progress.say
        ) as service:
            result = self._show(service, variables, planned, unit=_UNITS[declared.partitions.kind])
            self.progress.say("Stopping Dagster." if service.process else "Dagster keeps running.")
        self.progress.say(
            f"All checks passed ({self.progress.seconds:.0f} s). The stack stays up: `mlpipe dev` opens"
            " Dagster's UI, `mlpipe token` prints a token, `mlpipe down` stops it."
        )
        return result

    def _start_stack(self) -> None:
        services = "".join(f", {service.name}" for service in self.stack.project.services)
        with self.progress.step(
            f"local stack: AWS, Snowflake, Glue, SageMaker{services}; code uploaded"
        ) as found:
            StackControl(
                self.stack.directory,
                self.stack.environment_file,
                self.stack.project,
                say=lambda line: self.progress.say(f"    {line}"),
            ).up()
            found.append(f"state in {self.stack.directory.root}")

    def _show(
        self,
        service: DagsterService,
        variables: dict[str, str],
        planned: Mapping[str, PlannedVersions],
        *,
        unit: str,
    ) -> dict[str, Any]:
        dagster, stores = Dagster(service, self.stack.project.location_name), Stores(variables)
        commands = MlpipeCommands(dagster_environment(self.stack.directory, self.stack.project, variables))
        steps = {
            model: VersionSteps(ModelVersions(model, stores, commands), versions, self.progress)
            for model, versions in planned.items()
        }
        path = ModelPath(
            self.plan.model, self.plan.entity_id, dagster, stores, self._api(self.plan.model), commands
        )
        self._upload_sample_data(stores)
        own = steps.pop(path.model, None)
        # While Dagster starts: retraining needs Dagster only for the promotion.
        retraining = own and own.start_first()
        self._await_dagster(dagster)
        champion = own.await_first(retraining) if own and retraining else None
        delivered = self._score_all(path, own, champion, steps, unit)
        rows = self._count(stores, delivered, unit)
        live = delivered[-1]
        self._serve(path, live)
        answer = self._roll_back_and_forward(path, live)
        return {
            "ok": True,
            "model": path.model,
            "entity_id": path.entity_id,
            "batch_id": live.batch_id,
            "rows": {
                store: getattr(rows[live.batch_id], store)
                for store in ("json", "delta", "dynamodb", "snowflake")
            },
            "versions": {each.partition: each.version for each in delivered},
            "done_to_live_seconds": [each.seconds for each in delivered if each.seconds is not None],
            "response": answer.document,
        }

    def _score_all(
        self,
        path: ModelPath,
        own: VersionSteps | None,
        champion: int | None,
        others: Mapping[str, VersionSteps],
        unit: str,
    ) -> list[Delivered]:
        """Score and deliver all partitions, the second one with the version that replaces the champion."""
        first, second, *later = self.plan.partitions
        # In parallel with the first partition, since both mostly wait.
        started = {model: steps.start_first() for model, steps in others.items()}
        batch_id = self._score(path, first)
        # Only after the first batch has chosen its version.
        replacing = own.start_second() if own and own.replaces else None
        delivered = [self._deliver(path, first, batch_id, champion, unit)]
        for model, retraining in started.items():
            others[model].await_first(retraining)
        replaced = own.await_second(replacing, champion) if own and replacing and champion else champion
        delivered.append(self._deliver(path, second, self._score(path, second), replaced, unit))
        if own and champion and replaced and replaced != champion:
            own.demote(replaced, champion)
        delivered += [
            self._deliver(path, partition, self._score(path, partition), champion, unit)
            for partition in later
        ]
        return delivered

    def _upload_sample_data(self, stores: Stores) -> None:
        if self.stack.project.sample_data is not None:
            with self.progress.step(f"{self.plan.texts.sample_data} on S3") as found:
                written = upload_sample_data(self.stack.project, stores.s3, stores.bucket)
                found.append(f"{written} objects written")

    def _await_dagster(self, dagster: Dagster) -> None:
        with self.progress.step("Dagster: web server, daemon, sensor") as found:
            await_ready(dagster.service)
            wait_for(
                lambda: True if dagster.sensor_runs(_SENSOR) else None,
                seconds=_SENSOR_SECONDS,
                what=f"The start of the sensor {_SENSOR}",
                reason_at=str(dagster.service.log),
            )
            found.append(dagster.service.url)
            if dagster.service.process is not None and (dead := dagster.cancel_dead_runs()):
                found.append(f"cancelled {dead} runs that an earlier Dagster left unfinished")

    def _api(self, model: str) -> LiveApi:
        variables = read_variables(self.stack.environment_file)
        return LiveApi(variables["MLPIPE_API_URL"].rstrip("/"), model, obtain_token(variables))

    def _score(self, path: ModelPath, partition: str) -> str:
        with self.progress.step(f"{partition} scored") as found:
            batch_id = path.score(partition)
            found.append(f"batch {batch_id}")
        return batch_id

    def _deliver(
        self, path: ModelPath, partition: str, batch_id: str, version: int | None, unit: str
    ) -> Delivered:
        with self.progress.step(f"{partition} noticed by the sensor, loaded, checked, published") as found:
            delivered = path.deliver(partition, batch_id)
            previous = delivered.manifest.previous_batch_id or "none"
            found.append(
                f"live {delivered.seconds} s after its done file"
                if delivered.is_live
                else f"history: a newer {unit} is live"
            )
            found.append(f"{delivered.manifest.row_count} rows, previous batch {previous}")
            if version is not None:
                require_version(delivered, version)
                found.append(f"version {version}")
            if delivered.is_live:
                self._require_live_answer(path, delivered, path.api.require(path.entity_id, _OK))
        return delivered

    def _count(self, stores: Stores, delivered: list[Delivered], unit: str) -> dict[str, BatchRows]:
        registry, model = stores.registry, self.plan.model
        with self.progress.step("rows counted in every store"):
            counted = {
                each.batch_id: stores.count(each.manifest, registry.batch(model, each.batch_id))  # type: ignore[arg-type]  # it was just delivered
                for each in delivered
            }
        for line in table(delivered, counted, unit):
            self.progress.say(line)
        wrong = [f"{batch_id}: {what}" for batch_id, rows in counted.items() for what in rows.disagreements]
        if wrong:
            raise StackError(
                f"The stores' row counts differ: {'; '.join(wrong)}", remedy="See `mlpipe batches`"
            )
        shown = stores.live_in_snowflake(delivered[-1].manifest)
        expected = {delivered[-1].batch_id: counted[delivered[-1].batch_id].snowflake}
        if shown != expected:
            raise StackError(
                f"Snowflake's live view has {shown} instead of {expected}", remedy="Publish the batch again"
            )
        return counted

    def _serve(self, path: ModelPath, live: Delivered) -> None:
        with self.progress.step(f"GET /v1/models/{path.model}/predictions/{path.entity_id}") as found:
            answer = path.api.require(path.entity_id, _OK)
            self._require_live_answer(path, live, answer)
            found += ["200", f"from batch {answer.batch_id}", "equal to its JSON line"]
        self.progress.say(json.dumps(answer.document, indent=2))
        unknown = self.plan.unknown_entity_id
        with self.progress.step(f"an unknown {self.plan.texts.entity}, {unknown}") as found:
            found += ["404", str(path.api.require(unknown, _NOT_FOUND).document.get("title"))]
        with self.progress.step("no token") as found:
            refused = path.api.require(path.entity_id, _UNAUTHORIZED, with_token=False)
            found += ["401", str(refused.document.get("title"))]

    @staticmethod
    def _require_live_answer(path: ModelPath, live: Delivered, answer: ServedAnswer) -> None:
        """Raise unless an answer equals the live batch's row as the model wrote it."""
        if answer.batch_id != live.batch_id or answer.version != live.version:
            raise StackError(
                f"The API answers from batch {answer.batch_id} (version {answer.version}), but"
                f" {live.batch_id} (version {live.version}) is live",
                remedy="See the registry",
            )
        written = path.stores.served(live.manifest, path.entity_id)
        if written is None or written not in answer.body:
            raise StackError(
                f"The API answers {answer.body}, but the model wrote {written}", remedy="See the online table"
            )

    def _roll_back_and_forward(self, path: ModelPath, live: Delivered) -> ServedAnswer:
        target = path.batch_before(live)
        with self.progress.step(f"mlpipe rollback {path.model} --to {target}") as found:
            answer, seconds = path.switch("rollback", target)
            partition = answer.document["provenance"]["partition"]
            found.append(f"the API answers from {partition} {seconds:.1f} s later")
        with self.progress.step(f"mlpipe publish {path.model} {live.batch_id}") as found:
            answer, seconds = path.switch("publish", live.batch_id)
            found.append(f"the API answers from {live.partition} {seconds:.1f} s later")
        self._require_live_answer(path, live, answer)
        return answer


def require_version(delivered: Delivered, version: int) -> None:
    """Check that a version scored a batch.

    Raises:
        StackError: Another version scored it.
    """
    if delivered.version != version:
        raise StackError(
            f"Version {delivered.version} scored {delivered.partition}, but version {version} was champion",
            remedy=f"See `mlpipe explain {delivered.batch_id}`",
        )


def table(delivered: list[Delivered], counted: dict[str, BatchRows], unit: str) -> list[str]:
    """Return a table with a line per partition: rows by store, and the seconds from done file to live."""
    width = max(12, *(len(each.partition) + 2 for each in delivered))
    stores = f"{'version':>9}{'json':>7}{'delta':>7}{'dynamodb':>10}{'snowflake':>11}{'quarantine':>12}"
    lines = [f"{unit:<{width}}{'batch':<28}{stores}  done to live"]
    for each in delivered:
        rows = counted[each.batch_id]
        outcome = f"{each.seconds} s" if each.is_live else "history"
        lines.append(
            f"{each.partition:<{width}}{each.batch_id:<28}{each.version or '-':>9}{rows.json:>7}"
            f"{rows.delta:>7}{rows.dynamodb:>10}{rows.snowflake:>11}{rows.quarantine:>12}  {outcome}"
        )
    return lines
