"""The sensor of serving regions: verifies the replica of each region that is behind, and lets it follow."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import MODEL_TAG, PUBLICATION, asset_key
from mlpipe_dagster.pipeline.model_sensors import ACTIVE_RUN_STATES, ServedModel, UnreadableModels
from mlpipe_dagster.regions.region_follower import FollowResult, FollowStep, RegionFollower, is_in_step
from mlpipe_dagster.resources.platform import Platform

JOB = "follow_home"
_OP = "follow_in_region"
REGION_TAG = "mlpipe/region"
# Not the tag of loads, because runs with the same value of that tag wait for each other.
FOLLOWED_BATCH_TAG = "mlpipe/followed_batch_id"
# How often an incomplete replica is counted again, and after which time it becomes an alarm.
_RETRY_EVERY = timedelta(minutes=5)
ALARM_AFTER = timedelta(minutes=15)
# A run that hangs would block further requests. A count ends long before this.
_LONGEST_RUN_SECONDS = 3600


class FollowConfig(dg.Config):
    """Names the model and the serving region."""

    model: str
    region: str


@dg.op(name=_OP, description="Counts one region's replica of the live batch, and moves the region's pointer.")
def follow_home_op(context: dg.OpExecutionContext, config: FollowConfig, platform: Platform) -> None:
    """Let one region follow. If its replica is incomplete for too long, the run fails as an alarm."""
    followed = follower(platform, config.model, config.region).follow()
    observation = region_observation(config.model, followed)
    context.log_event(observation)
    if followed.step is FollowStep.INCOMPLETE and followed.behind > ALARM_AFTER:
        raise dg.Failure(
            f"{config.region} has been behind home for {followed.behind}: {'. '.join(followed.faults)}. "
            f"It serves {followed.region_batch_id}, home serves {followed.home_batch_id}. Check the "
            "table's replication; the sensor keeps trying.",
            # Dagster drops the observations of a failed step, so the metadata is repeated here.
            metadata=observation.metadata,
            allow_retries=False,
        )


@dg.job(
    name=JOB,
    description="Lets one serving region follow home for one model.",
    tags={"dagster/max_runtime": str(_LONGEST_RUN_SECONDS)},
)
def follow_home_job() -> None:
    """Let a region follow."""
    follow_home_op()


def follower(platform: Platform, model: str, region: str) -> RegionFollower:
    """Return the follower of a region for a model."""
    return RegionFollower(
        model=model,
        region=region,
        deployment=platform.settings.deployment,
        registry=platform.registry,
        bucket=platform.bucket,
        replica=platform.dynamodb_in(region),
        clock=lambda: datetime.now(UTC),
    )


def region_observation(model: str, followed: FollowResult) -> dg.AssetObservation:
    """Return the outcome of an attempt as an event of the model's publication."""
    shown = {
        "region": followed.region,
        "step": str(followed.step),
        "home_serves": followed.home_batch_id,
        "region_serves": followed.region_batch_id,
        "behind_seconds": round(followed.behind.total_seconds()),
        "faults": ". ".join(followed.faults) or None,
    }
    return dg.AssetObservation(
        asset_key=asset_key(model, PUBLICATION),
        description=f"{followed.region}: {followed.step}",
        metadata={name: value for name, value in shown.items() if value is not None},
    )


def serving_regions_tick(
    instance: dg.DagsterInstance, platform: Platform, models: Iterable[ServedModel], now: datetime
) -> dg.SensorResult:
    """Examine all models and regions; request at most one run at a time per region and batch.

    Raises:
        ModelsUnreadableError: A model cannot be examined, and no other model needs a run.
    """
    regions = platform.settings.serving_regions
    under_way = _under_way(instance) if regions else frozenset()
    requests: list[dg.RunRequest] = []
    unreadable = UnreadableModels()
    for model in models if regions else ():
        with unreadable.collect(model.name):
            requests += follow_requests(platform, model.name, regions, under_way, now)
    return unreadable.result(
        None, "Every serving region is in step with home, or a run already updates it", requests=requests
    )


def _under_way(instance: dg.DagsterInstance) -> frozenset[tuple[str, str]]:
    """Return the region and batch of each run that has not ended."""
    runs = instance.get_runs(dg.RunsFilter(job_name=JOB, statuses=ACTIVE_RUN_STATES))
    return frozenset((run.tags.get(REGION_TAG, ""), run.tags.get(FOLLOWED_BATCH_TAG, "")) for run in runs)


def follow_requests(
    platform: Platform,
    model: str,
    regions: Collection[str],
    under_way: Collection[tuple[str, str]],
    now: datetime,
) -> Iterator[dg.RunRequest]:
    """Yield a run for each region that is behind or not yet verified, unless one is unfinished.

    Args:
        platform: The resources and settings.
        model: The model's name.
        regions: The serving regions without home.
        under_way: The region and batch of each unfinished run.
        now: The current time; a region that stays behind gets one run per interval.
    """
    registry = platform.registry
    live_pointers = registry.live_pointers(
        model, home_region=platform.settings.deployment.home, regions=regions
    )
    if live_pointers.home is None or live_pointers.home.batch_id is None:
        return
    batch_id = live_pointers.home.batch_id
    record = registry.batch(model, batch_id)
    verified = record.verified_regions if record else frozenset()
    attempt = record.verified_attempt if record else None
    interval = int(now.timestamp() // _RETRY_EVERY.total_seconds())
    for region in regions:
        if (region, batch_id) in under_way or (region in verified and is_in_step(live_pointers, region)):
            continue
        yield dg.RunRequest(
            run_key=f"{JOB}:{model}:{region}:{live_pointers.home.sequence}:{attempt}:{interval}",
            job_name=JOB,
            run_config={"ops": {_OP: {"config": {"model": model, "region": region}}}},
            tags={MODEL_TAG: model, REGION_TAG: region, FOLLOWED_BATCH_TAG: batch_id},
        )


def serving_regions_sensor(models: list[ServedModel]) -> dg.SensorDefinition:
    """Return the sensor for all models and serving regions."""

    @dg.sensor(
        name="serving_regions",
        job=follow_home_job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Lets each serving region follow home once its replica holds the whole batch.",
    )
    def serving_regions(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        return serving_regions_tick(context.instance, platform, models, datetime.now(UTC))

    return serving_regions
