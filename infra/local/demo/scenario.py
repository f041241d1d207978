"""What the demo shows, in its order, and the statements that must hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.access_token import obtain_token, read_variables
from infra.local.demo.demo_stores import BatchRows, Stores
from infra.local.demo.live_api import LiveApi, ServedAnswer
from infra.local.demo.model_path import Delivered, ModelPath
from infra.local.demo.progress import DemoProgress
from infra.local.raw_data import upload_days
from infra.local.stack.dagster_runs import Dagster, wait_for
from infra.local.stack.dagster_service import (
    DagsterService,
    await_ready,
    dagster_environment,
    running_dagster,
)
from infra.local.stack.environment_file import read_environment_file
from infra.local.stack.stack_control import StackControl
from infra.local.supervision.stack_state import StackDirectory, StackError
from model_declaration.project import Project

MODEL = "flight_delay"
OTHER_MODEL = "airport_congestion"
DAYS = ("2013-02-01", "2013-02-02", "2013-02-03")
ENTITY = "AA-1141-JFK"
OTHER_ENTITY = "JFK-17"
_NO_FLIGHT = "ZZ-9999-JFK"
_SENSOR = "done_files"
_SENSOR_SECONDS = 120
_OK, _UNAUTHORIZED, _NOT_FOUND = 200, 401, 404


@dataclass(frozen=True)
class Demo:
    """The demo on one stack.

    Attributes:
        directory: The stack's state directory.
        environment_file: Where its addresses are.
        project: Whose models are shown.
        progress: Tells of it.
    """

    directory: StackDirectory
    environment_file: Path
    project: Project
    progress: DemoProgress

    def run(self) -> dict[str, Any]:
        """Show everything; return the result for a program.

        Raises:
            StackError: A statement does not hold, or the stack or Dagster does not run.
        """
        self._bring_up()
        variables = read_environment_file(self.environment_file)
        with running_dagster(self.directory, variables, say=self.progress.say) as service:
            result = self._show(service, variables)
            self.progress.say("Dagster ends now." if service.process else "Dagster goes on.")
        self.progress.say(
            f"Everything held ({self.progress.seconds:.0f} s). The stack stays up: `mlpipe dev` shows it in"
            " Dagster's UI, `mlpipe token` prints a token, `mlpipe down` stops it."
        )
        return result

    def _bring_up(self) -> None:
        with self.progress.step(
            "local stack: AWS, Snowflake, Glue, SageMaker, weather; code uploaded"
        ) as found:
            control = StackControl(
                self.directory,
                self.environment_file,
                say=lambda line: self.progress.say(f"    {line}"),
                project=self.project,
            )
            control.up()
            found.append(f"its state is in {self.directory.root}")

    def _show(self, service: DagsterService, variables: dict[str, str]) -> dict[str, Any]:
        dagster, stores = Dagster(service, self.project.location_name), Stores(variables)
        with self.progress.step("raw flights and weather of January and February 2013 on S3") as found:
            found.append(f"{upload_days(stores.s3, stores.bucket)} objects written")
        with self.progress.step("Dagster: web server, daemon, sensor") as found:
            await_ready(service)
            wait_for(
                lambda: True if dagster.sensor_runs(_SENSOR) else None,
                seconds=_SENSOR_SECONDS,
                what=f"The start of sensor {_SENSOR}",
                see=str(service.log),
            )
            found.append(service.url)
            if service.process is not None and (dead := dagster.cancel_dead_runs()):
                found.append(f"{dead} runs that an earlier Dagster left are cancelled")
        environment = dagster_environment(self.directory, variables)
        path, other = (
            ModelPath(model, entity_id, dagster, stores, self._api(model), environment)
            for model, entity_id in ((MODEL, ENTITY), (OTHER_MODEL, OTHER_ENTITY))
        )
        self._train(path, path.start_training())
        # Beside the first day's scoring: both mostly wait.
        other_training = other.start_training()
        delivered = [self._deliver(path, day) for day in DAYS]
        self._train(other, other_training)
        rows = self._count(stores, delivered)
        live = delivered[-1]
        self._serve(path, live)
        answer = self._roll_back_and_forward(path, live)
        return {
            "ok": True,
            "model": MODEL,
            "entity_id": ENTITY,
            "batch_id": live.batch_id,
            "rows": {
                store: getattr(rows[live.batch_id], store)
                for store in ("json", "delta", "dynamodb", "snowflake")
            },
            "done_to_live_seconds": [each.seconds for each in delivered if each.seconds is not None],
            "response": answer.document,
        }

    def _api(self, model: str) -> LiveApi:
        variables = read_variables(self.environment_file)
        return LiveApi(variables["MLPIPE_API_URL"].rstrip("/"), model, obtain_token(variables))

    def _train(self, path: ModelPath, run_id: str) -> None:
        with self.progress.step(
            f"features of two months, {path.model} trained and evaluated on them"
        ) as found:
            known = path.await_training(run_id)
            found.append(f"{known.get('rows')} rows, model version {known.get('model_version')}")
            found.append(require_better_than_baselines(path.model, known))

    def _deliver(self, path: ModelPath, day: str) -> Delivered:
        with self.progress.step(f"{day} scored") as found:
            batch_id = path.score(day)
            found.append(f"batch {batch_id}")
        with self.progress.step(f"{day} noticed by the sensor, loaded, checked, published") as found:
            delivered = path.deliver(day, batch_id)
            previous = delivered.manifest.previous_batch_id or "none"
            found.append(
                f"live {delivered.seconds} s after its done file"
                if delivered.is_live
                else "history: a newer day is live"
            )
            found.append(f"{delivered.manifest.row_count} rows, previous batch {previous}")
        return delivered

    def _count(self, stores: Stores, delivered: list[Delivered]) -> dict[str, BatchRows]:
        with self.progress.step("rows counted in every store"):
            counted = {
                each.batch_id: stores.count(each.manifest, stores.registry.batch(MODEL, each.batch_id))  # type: ignore[arg-type]  # it was just delivered
                for each in delivered
            }
        for line in table(delivered, counted):
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
        with self.progress.step(f"GET /v1/models/{path.model}/predictions/{ENTITY}") as found:
            answer = path.api.require(ENTITY, _OK)
            self._require_right(path, live, answer)
            found += ["200", f"from batch {answer.batch_id}", "equal to its JSON line"]
        self.progress.say(json.dumps(answer.document, indent=2))
        with self.progress.step(f"an unknown flight, {_NO_FLIGHT}") as found:
            found += ["404", str(path.api.require(_NO_FLIGHT, _NOT_FOUND).document.get("title"))]
        with self.progress.step("no token") as found:
            refused = path.api.require(ENTITY, _UNAUTHORIZED, with_token=False)
            found += ["401", str(refused.document.get("title"))]

    @staticmethod
    def _require_right(path: ModelPath, live: Delivered, answer: ServedAnswer) -> None:
        """Raise unless an answer is the live batch's row as the model wrote it, number by number."""
        if answer.batch_id != live.batch_id:
            raise StackError(
                f"The API answers from {answer.batch_id}, live is {live.batch_id}", remedy="See the registry"
            )
        written = path.stores.served(live.manifest, ENTITY)
        if written is None or written not in answer.body:
            raise StackError(
                f"The API answers {answer.body}, and the model wrote {written}", remedy="See the online table"
            )

    def _roll_back_and_forward(self, path: ModelPath, live: Delivered) -> ServedAnswer:
        target = path.day_before(live)
        with self.progress.step(f"mlpipe rollback {path.model} --to {target}") as found:
            answer, seconds = path.switch("rollback", target)
            day = answer.document["provenance"]["partition"]
            found.append(f"the API answers from {day} {seconds:.1f} s later")
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


def table(delivered: list[Delivered], counted: dict[str, BatchRows]) -> list[str]:
    """Return a line a day: rows by store, and the seconds from done file to live."""
    stores = f"{'json':>7}{'delta':>7}{'dynamodb':>10}{'snowflake':>11}{'quarantine':>12}"
    lines = [f"{'day':<12}{'batch':<28}{stores}  done to live"]
    for each in delivered:
        rows = counted[each.batch_id]
        outcome = f"{each.seconds} s" if each.is_live else "history"
        lines.append(
            f"{each.partition:<12}{each.batch_id:<28}{rows.json:>7}{rows.delta:>7}{rows.dynamodb:>10}"
            f"{rows.snowflake:>11}{rows.quarantine:>12}  {outcome}"
        )
    return lines
