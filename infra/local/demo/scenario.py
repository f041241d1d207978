"""What the demo shows, in its order, and the statements that must hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.local.access_token import obtain_token, read_variables
from infra.local.demo.demo_plan import DemoPlan, PlannedTraining, planned_trainings
from infra.local.demo.demo_stores import BatchRows, Stores
from infra.local.demo.live_api import LiveApi, ServedAnswer
from infra.local.demo.model_path import Delivered, ModelPath
from infra.local.demo.progress import DemoProgress
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
# What a table's first column is called, by the kind of the model's partitions.
_UNITS = {"hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month"}


@dataclass(frozen=True)
class Demo:
    """The demo on one stack.

    Attributes:
        stack: The stack.
        plan: What is shown.
        progress: Tells of it.
    """

    stack: ChosenStack
    plan: DemoPlan
    progress: DemoProgress

    def run(self) -> dict[str, Any]:
        """Show everything; return the result for a program.

        Raises:
            StackError: A statement does not hold, or the stack or Dagster does not run.
        """
        trained = planned_trainings(self.stack.project, self.plan)
        declared = declaration_of(self.plan.model, self.stack.project.defs)
        self._bring_up()
        variables = read_environment_file(self.stack.environment_file)
        with running_dagster(
            self.stack.directory, self.stack.project, variables, say=self.progress.say
        ) as service:
            result = self._show(service, variables, trained, unit=_UNITS[declared.partitions.kind])
            self.progress.say("Dagster ends now." if service.process else "Dagster goes on.")
        self.progress.say(
            f"Everything held ({self.progress.seconds:.0f} s). The stack stays up: `mlpipe dev` shows it in"
            " Dagster's UI, `mlpipe token` prints a token, `mlpipe down` stops it."
        )
        return result

    def _bring_up(self) -> None:
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
            found.append(f"its state is in {self.stack.directory.root}")

    def _show(
        self,
        service: DagsterService,
        variables: dict[str, str],
        trained: Mapping[str, PlannedTraining],
        *,
        unit: str,
    ) -> dict[str, Any]:
        dagster, stores = Dagster(service, self.stack.project.location_name), Stores(variables)
        self._upload_sample_data(stores)
        self._await_dagster(dagster)
        environment = dagster_environment(self.stack.directory, self.stack.project, variables)
        paths = {
            model: ModelPath(model, self.plan.entity_id, dagster, stores, self._api(model), environment)
            for model in (self.plan.model, *self.plan.also_trained)
        }
        path = paths[self.plan.model]
        if path.model in trained:
            self._train(path, path.start_training(trained[path.model]), trained[path.model])
        # Beside the first partition's scoring: both mostly wait.
        others = {model: paths[model].start_training(trained[model]) for model in self.plan.also_trained}
        delivered = [self._deliver(path, partition, unit) for partition in self.plan.partitions]
        for model, run_id in others.items():
            self._train(paths[model], run_id, trained[model])
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
            "done_to_live_seconds": [each.seconds for each in delivered if each.seconds is not None],
            "response": answer.document,
        }

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
                what=f"The start of sensor {_SENSOR}",
                see=str(dagster.service.log),
            )
            found.append(dagster.service.url)
            if dagster.service.process is not None and (dead := dagster.cancel_dead_runs()):
                found.append(f"{dead} runs that an earlier Dagster left are cancelled")

    def _api(self, model: str) -> LiveApi:
        variables = read_variables(self.stack.environment_file)
        return LiveApi(variables["MLPIPE_API_URL"].rstrip("/"), model, obtain_token(variables))

    def _train(self, path: ModelPath, run_id: str, training: PlannedTraining) -> None:
        done = "trained and evaluated" if training.is_evaluated else "trained"
        with self.progress.step(f"{self.plan.texts.features}, {path.model} {done} on them") as found:
            known = path.await_training(run_id)
            found.append(f"{known.get('rows')} rows, model version {known.get('model_version')}")
            if training.is_evaluated:
                found.append(require_better_than_baselines(path.model, known))

    def _deliver(self, path: ModelPath, partition: str, unit: str) -> Delivered:
        with self.progress.step(f"{partition} scored") as found:
            batch_id = path.score(partition)
            found.append(f"batch {batch_id}")
        with self.progress.step(f"{partition} noticed by the sensor, loaded, checked, published") as found:
            delivered = path.deliver(partition, batch_id)
            previous = delivered.manifest.previous_batch_id or "none"
            found.append(
                f"live {delivered.seconds} s after its done file"
                if delivered.is_live
                else f"history: a newer {unit} is live"
            )
            found.append(f"{delivered.manifest.row_count} rows, previous batch {previous}")
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
            raise StackError(f"The rows do not add up: {'; '.join(wrong)}", remedy="See `mlpipe batches`")
        shown = stores.live_in_snowflake(delivered[-1].manifest)
        expected = {delivered[-1].batch_id: counted[delivered[-1].batch_id].snowflake}
        if shown != expected:
            raise StackError(
                f"Snowflake's live view shows {shown}, not {expected}", remedy="Publish the batch again"
            )
        return counted

    def _serve(self, path: ModelPath, live: Delivered) -> None:
        with self.progress.step(f"GET /v1/models/{path.model}/predictions/{path.entity_id}") as found:
            answer = path.api.require(path.entity_id, _OK)
            self._require_right(path, live, answer)
            found += ["200", f"from batch {answer.batch_id}", "equal to its JSON line"]
        self.progress.say(json.dumps(answer.document, indent=2))
        unknown = self.plan.unknown_entity_id
        with self.progress.step(f"an unknown {self.plan.texts.entity}, {unknown}") as found:
            found += ["404", str(path.api.require(unknown, _NOT_FOUND).document.get("title"))]
        with self.progress.step("no token") as found:
            refused = path.api.require(path.entity_id, _UNAUTHORIZED, with_token=False)
            found += ["401", str(refused.document.get("title"))]

    @staticmethod
    def _require_right(path: ModelPath, live: Delivered, answer: ServedAnswer) -> None:
        """Raise unless an answer is the live batch's row as the model wrote it, number by number."""
        if answer.batch_id != live.batch_id:
            raise StackError(
                f"The API answers from {answer.batch_id}, live is {live.batch_id}", remedy="See the registry"
            )
        written = path.stores.served(live.manifest, path.entity_id)
        if written is None or written not in answer.body:
            raise StackError(
                f"The API answers {answer.body}, and the model wrote {written}", remedy="See the online table"
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
        self._require_right(path, live, answer)
        return answer


def require_better_than_baselines(model: str, known: Mapping[str, str]) -> str:
    """Return the report of a trained model on held-out days, which must beat every naive baseline.

    Args:
        model: The model.
        known: What Dagster shows of the trained model.

    Raises:
        StackError: There is no report, or it does not.
    """
    evaluation = json.loads(known.get("evaluation") or "{}")
    metrics = evaluation.get("metrics", [])
    if not metrics or not all(metric["beats_baselines"] for metric in metrics):
        raise StackError(
            f"{model} is not better than naive baselines:"
            f" {known.get('held_out_report', 'it was not evaluated')}",
            remedy=f"See the evaluation of {model}/trained_model",
        )
    return known["held_out_report"]


def table(delivered: list[Delivered], counted: dict[str, BatchRows], unit: str) -> list[str]:
    """Return a line for each partition: rows by store, and the seconds from done file to live."""
    width = max(12, *(len(each.partition) + 2 for each in delivered))
    stores = f"{'json':>7}{'delta':>7}{'dynamodb':>10}{'snowflake':>11}{'quarantine':>12}"
    lines = [f"{unit:<{width}}{'batch':<28}{stores}  done to live"]
    for each in delivered:
        rows = counted[each.batch_id]
        outcome = f"{each.seconds} s" if each.is_live else "history"
        lines.append(
            f"{each.partition:<{width}}{each.batch_id:<28}{rows.json:>7}{rows.delta:>7}{rows.dynamodb:>10}"
            f"{rows.snowflake:>11}{rows.quarantine:>12}  {outcome}"
        )
    return lines
