"""The clients of SageMaker and Glue jobs, and of SageMaker pipelines, as resources."""

# No postponed annotations: Dagster reads a resource's field types itself.
from typing import TYPE_CHECKING

import dagster as dg

from mlpipe_dagster.job_clients.job_metadata import GLUE_DPU_HOUR_USD, SAGEMAKER_HOUR_USD
from mlpipe_dagster.resources.platform import Platform

if TYPE_CHECKING:
    from mlpipe_dagster.job_clients.glue_client import PipesGlueJobClient
    from mlpipe_dagster.job_clients.pipeline_executions import PipelineExecutions
    from mlpipe_dagster.job_clients.sagemaker_client import PipesSageMakerClient

# The clients' modules import boto3 and dagster-aws, which must not happen while definitions load.


class SageMakerJobs(dg.ConfigurableResource):
    """Provides the client of SageMaker jobs.

    Attributes:
        platform: The resources and settings.
        deadline_seconds: The time limit of a job, including its time in queues.
        longest_pause_seconds: The longest pause between two polls.
        hour_usd: Price of an hour by instance type, for the estimated cost of a job.
    """

    platform: dg.ResourceDependency[Platform]
    deadline_seconds: float = 5 * 3600
    longest_pause_seconds: float = 15
    hour_usd: dict[str, float] = SAGEMAKER_HOUR_USD

    def client(self) -> "PipesSageMakerClient":
        """Return the client."""
        from mlpipe_dagster.job_clients.pipes_over_s3 import TidyContextInjector, TidyMessageReader  # noqa: PLC0415
        from mlpipe_dagster.job_clients.polling import Polling  # noqa: PLC0415
        from mlpipe_dagster.job_clients.sagemaker_client import PipesSageMakerClient  # noqa: PLC0415

        s3, bucket = self.platform.client("s3"), self.platform.settings.data_bucket
        return PipesSageMakerClient(
            hour_usd=self.hour_usd,
            client=self.platform.client("sagemaker"),
            logs_client=self.platform.client("logs"),
            context_injector=TidyContextInjector(bucket=bucket, client=s3),
            message_reader=TidyMessageReader(bucket=bucket, client=s3),
            polling=Polling(deadline_seconds=self.deadline_seconds, longest_pause=self.longest_pause_seconds),
        )


class RetrainingPipelines(dg.ConfigurableResource):
    """Provides the client of retraining pipelines.

    Attributes:
        platform: The resources and settings.
        deadline_seconds: The time limit of an execution, including its jobs' time in queues.
        longest_pause_seconds: The longest pause between two polls.
    """

    platform: dg.ResourceDependency[Platform]
    deadline_seconds: float = 24 * 3600
    longest_pause_seconds: float = 30

    def client(self) -> "PipelineExecutions":
        """Return the client."""
        from mlpipe_dagster.job_clients.pipeline_executions import PipelineExecutions  # noqa: PLC0415
        from mlpipe_dagster.job_clients.polling import Polling  # noqa: PLC0415

        return PipelineExecutions(
            client=self.platform.client("sagemaker"),
            logs_client=self.platform.client("logs"),
            polling=Polling(deadline_seconds=self.deadline_seconds, longest_pause=self.longest_pause_seconds),
        )


class GlueJobs(dg.ConfigurableResource):
    """Provides the client of Glue jobs; other fields are as in `SageMakerJobs`.

    Attributes:
        dpu_hour_usd: Price of a DPU hour, for the estimated cost of a job run.
    """

    platform: dg.ResourceDependency[Platform]
    deadline_seconds: float = 2 * 3600
    longest_pause_seconds: float = 10
    dpu_hour_usd: float = GLUE_DPU_HOUR_USD

    def client(self) -> "PipesGlueJobClient":
        """Return the client."""
        from mlpipe_dagster.job_clients.glue_client import PipesGlueJobClient  # noqa: PLC0415
        from mlpipe_dagster.job_clients.pipes_over_s3 import TidyContextInjector, TidyMessageReader  # noqa: PLC0415
        from mlpipe_dagster.job_clients.polling import Polling  # noqa: PLC0415

        s3, bucket = self.platform.client("s3"), self.platform.settings.data_bucket
        return PipesGlueJobClient(
            dpu_hour_usd=self.dpu_hour_usd,
            log_group_prefix=self.platform.settings.deployment.load_log_prefix,
            # A repeated StartJobRun would start a second job run.
            client=self.platform.client("glue", repeats=False),
            logs_client=self.platform.client("logs"),
            context_injector=TidyContextInjector(bucket=bucket, client=s3),
            message_reader=TidyMessageReader(bucket=bucket, client=s3),
            polling=Polling(deadline_seconds=self.deadline_seconds, longest_pause=self.longest_pause_seconds),
        )
