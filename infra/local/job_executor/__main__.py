"""Entry point: `python -m infra.local.job_executor --port N --state-dir DIR --aws-endpoint-url URL`."""

from __future__ import annotations

import datetime as dt
import logging
import signal
import sys
import threading
from typing import TYPE_CHECKING

from infra.local.job_executor.aws_access import AwsAccess
from infra.local.job_executor.call_faults import FaultBook
from infra.local.job_executor.executor_settings import parse_settings
from infra.local.job_executor.glue.glue_api import GlueApi
from infra.local.job_executor.glue.glue_job import GlueJobKind
from infra.local.job_executor.http_server import Dispatcher, ExecutorServer
from infra.local.job_executor.image_store import ImageStore
from infra.local.job_executor.jobs.job_runner import JobRunner
from infra.local.job_executor.jobs.job_store import RecordStore, StateCorruptError
from infra.local.job_executor.sagemaker.container import private_mounts_work
from infra.local.job_executor.sagemaker.event_bus import DETAIL_TYPES, EVENTS, EventBus
from infra.local.job_executor.sagemaker.model_packages import ModelPackagesApi
from infra.local.job_executor.sagemaker.package_groups import PackageGroupsApi
from infra.local.job_executor.sagemaker.pipelines.callbacks_api import CallbacksApi
from infra.local.job_executor.sagemaker.pipelines.execution_runner import ExecutionRunner
from infra.local.job_executor.sagemaker.pipelines.executions_api import ExecutionsApi
from infra.local.job_executor.sagemaker.pipelines.pipelines_api import PipelinesApi
from infra.local.job_executor.sagemaker.pipelines.role_calls import RoleCalls
from infra.local.job_executor.sagemaker.pipelines.step_records import StepRecords
from infra.local.job_executor.sagemaker.processing_job import ProcessingJobKind
from infra.local.job_executor.sagemaker.sagemaker_api import SageMakerApi
from infra.local.job_executor.sagemaker.schedules import ScheduleClock
from infra.local.job_executor.sagemaker.training_job import TrainingJobKind

if TYPE_CHECKING:
    from infra.local.job_executor.executor_settings import ExecutorSettings

_LOG = logging.getLogger(__name__)
_LAST_TICK_SECONDS = 1.0
_SHUTDOWN_SECONDS = 23.0
_LAST_STEPS_SECONDS = 2.0
_LAST_EVENTS_SECONDS = 3.0


def serve(settings: ExecutorSettings) -> int:
    """Serve until SIGTERM or SIGINT, then end every job.

    Returns:
        The exit code: 0, 1 if a job did not end in time, 3 if the state is damaged or in use, 4 for a
        port in use.
    """
    try:
        store = RecordStore(settings.state_dir)
    except StateCorruptError as error:
        _LOG.error("%s", error)
        return 3
    try:
        server = ExecutorServer(settings.port)
    except OSError as error:
        _LOG.error(
            "Port %d cannot be used (%s). Stop what listens there, or choose another port.",
            settings.port,
            error,
        )
        store.close()
        return 4
    access = AwsAccess(settings)
    images = ImageStore(settings.state_dir / "images.json")
    faults = FaultBook()
    faults.allow_events(EVENTS, DETAIL_TYPES)
    bus = EventBus(settings.region, access, faults)
    runner = JobRunner(
        settings=settings,
        store=store,
        access=access,
        kinds=[GlueJobKind(), ProcessingJobKind(), TrainingJobKind()],
        own_url=server.url,
        private_mounts=private_mounts_work(settings.state_dir / "mount-trial"),
    )

    def dispatch(target: str, body: bytes) -> bytes | None:
        return dispatcher.dispatch(target, body)

    executions = ExecutionRunner(settings, store, RoleCalls(settings, access, dispatch), bus)
    dispatcher = Dispatcher(
        {
            "glue": GlueApi(settings, store, access, runner.start).operations,
            "sagemaker": {
                **SageMakerApi(settings, store, access, runner.start, images).operations,
                **PackageGroupsApi(settings, store, access).operations,
                **ModelPackagesApi(settings, store, access, bus).operations,
                **PipelinesApi(settings, store, access).operations,
                **ExecutionsApi(settings, store, executions).operations,
                **CallbacksApi(settings, store, StepRecords(store, bus)).operations,
            },
        },
        images,
        faults,
    )
    server.dispatcher = dispatcher
    clock = ScheduleClock(
        settings,
        access,
        lambda body: dispatch("SageMaker.StartPipelineExecution", body),
        since=dt.datetime.now(dt.UTC),
    )

    def stop(_number: int, _frame: object) -> None:
        # In a thread, because `shutdown` waits for the serving loop, which this handler interrupts.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    bus.start()
    clock.start()
    resumed, followed = runner.resume(), executions.resume()
    _LOG.info("job executor at %s, resumed %d jobs and %d executions", server.url, resumed, followed)
    server.serve_forever(poll_interval=0.2)
    server.server_close()
    clock.close(_LAST_TICK_SECONDS)
    executions.stop_starting()
    ended = runner.shut_down(_SHUTDOWN_SECONDS)
    ended = executions.shut_down(_LAST_STEPS_SECONDS) and ended
    bus.close(_LAST_EVENTS_SECONDS)
    if ended:
        store.close()
    _LOG.info("job executor ended")
    return 0 if ended else 1


def main(argv: list[str]) -> int:
    """Run the executor with command line arguments."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return serve(parse_settings(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
