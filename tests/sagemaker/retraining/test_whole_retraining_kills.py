"""Test that retrainings killed at random moments register once and promote only approved versions."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from infra.local.supervision.processes import is_alive
from model_declaration.partitions import Training
from prediction_contract.jobs.model_inputs import Judging
from prediction_contract.jobs.verdict import APPROVED
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.version_records import VersionState
from tests.infra.job_executor.job_stack import IMAGE, Executor
from tests.sagemaker.retraining.followed_versions import BEGINS
from tests.sagemaker.retraining.retrained_model import FUNCTIONS, inputs_of, schema_document, visits_of
from tests.sagemaker.retraining.retraining_jobs import RetrainingJobs
from tests.sagemaker.retraining.retraining_pipeline import RetrainingPipeline, execution_id
from tests.stack_runs import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sagemaker.scoring_jobs import ScoringJobs

pytestmark = pytest.mark.stack
_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 60
FIRST_DAY, FIRST_TICK = Partition("2013-01-02"), Partition("2013-01-10")
STEPS = ("plan_retraining.py", "train_model.py", "judge_models.py")
# Spending per visit grows each day, so newer models are better; every third model is deliberately poor.
TRAIN = """
def train(examples):
    rate = float((examples["spent"] / examples["visits"]).mean())
    is_poor = int(examples["partition"].max()[-2:]) % 3 == 0
    return {"rate": rate * (0.8 if is_poor else 1)}
"""


@dataclass
class WholeRetrainings:
    """The retrainings of one model on its own executor, one schedule tick after another.

    Attributes:
        pipeline: The model's retraining pipeline.
        executor: The local executor of SageMaker jobs.
        registry: The registry table.
        chance: Decides when and what to kill.
        killed: How often each process was killed.
    """

    pipeline: RetrainingPipeline
    executor: Executor
    registry: RegistryTable
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    _day: Partition = FIRST_TICK
    _execution_seconds: float = 0
    _look_seconds: float = 0
    _sequence: int = 0

    @property
    def model(self) -> str:
        """The model's name."""
        return self.pipeline.retraining.model

    def run_whole(self) -> None:
        """Run one tick without kills, and require that its version becomes the champion."""
        began = time.monotonic()
        arn = self._tick()
        self.pipeline.require_success(arn)
        self._execution_seconds = time.monotonic() - began
        self._require_one_package(arn)
        self._look()
        pointer = self.registry.champion(self.model)
        assert pointer is not None
        assert pointer.version == max(self._approved())

    def kill_and_go_on(self) -> None:
        """Kill one process during an execution and one while its packages are followed, then recover."""
        arn = self._tick()
        if self.chance.random() < 0.3:
            time.sleep(self.chance.uniform(0, self._execution_seconds))
            self.executor.kill()
            self.executor.start()
            self.killed["executor"] += 1
            self.require_order()
            self.pipeline.require_success(arn)
        elif self._kill_script(step := self.chance.choice(STEPS), arn):
            self.killed[step] += 1
        self.require_order()
        self._end(arn)
        self.require_order()
        self._look_and_die()
        self.require_order()
        self._look()
        self.require_order()

    def require_order(self) -> None:
        """Require the invariants of packages, versions and the champion pointer."""
        packages = {each["ModelPackageVersion"]: each for each in self.pipeline.packages()}
        executions = Counter(each["CustomerMetadataProperties"]["execution"] for each in packages.values())
        assert set(executions.values()) <= {1}, executions
        versions = {each.version: each for each in self.registry.model_versions(self.model)}
        champions = [number for number, each in versions.items() if each.state == VersionState.CHAMPION]
        pointer = self.registry.champion(self.model)
        assert champions == ([] if pointer is None else [pointer.version])
        if pointer is None:
            return
        champion = packages[pointer.version]
        assert champion["ModelApprovalStatus"] == APPROVED
        assert champion["CustomerMetadataProperties"]["digest"] == pointer.digest
        assert pointer.sequence >= self._sequence
        self._sequence = pointer.sequence
        history = list(self.registry.promotions(self.model))[::-1]
        assert [each.sequence for each in history] == list(range(1, pointer.sequence + 1))
        promoted = [each.version or 0 for each in history]
        assert promoted == sorted(set(promoted))
        assert promoted[-1] == pointer.version

    def _tick(self) -> str:
        """Start the execution of the next day."""
        self._day = self._day.later(1)
        return self.pipeline.start(str(self._day))

    def _end(self, arn: str) -> None:
        """Sometimes retry a failed execution; after a success, require that a repeated tick does nothing."""
        if self.pipeline.end(arn) == "Failed" and self.chance.random() < 0.6:
            self.pipeline.client.retry_pipeline_execution(PipelineExecutionArn=arn)
        if self.pipeline.end(arn) == "Failed":
            assert not self._packages_of(arn)
            return
        self._require_one_package(arn)
        late = self.pipeline.start(str(self._day))
        self.pipeline.require_success(late)
        assert self.pipeline.plan(late).claimed_by == execution_id(arn)
        assert not self._packages_of(late)

    def _require_one_package(self, arn: str) -> None:
        (package,) = self._packages_of(arn)
        assert package["ModelApprovalStatus"] == self.pipeline.verdict(arn).approval

    def _packages_of(self, arn: str) -> list[dict[str, Any]]:
        return [
            each
            for each in self.pipeline.packages()
            if each["CustomerMetadataProperties"]["execution"] == execution_id(arn)
        ]

    def _approved(self) -> list[int]:
        return [
            each["ModelPackageVersion"]
            for each in self.pipeline.packages()
            if each["ModelApprovalStatus"] == APPROVED
        ]

    def _kill_script(self, step: str, arn: str) -> bool:
        """Kill the script of a step at a random moment; return whether it was still running."""
        while (process := self._script(step)) is None:
            if self.pipeline.status(arn) != "Executing":
                return False
            time.sleep(0.05)
        # The three scripts and the time between them share one execution, so each takes about a fifth.
        with suppress(psutil.TimeoutExpired):
            process.wait(self.chance.uniform(0, self._execution_seconds / 5))
        if not is_alive(process):
            return False
        process.kill()
        return True

    def _script(self, step: str) -> psutil.Process | None:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = process.cmdline()
                if any(word.endswith(step) for word in words[1:2]) and process.cwd().startswith(
                    str(self.executor.state_dir)
                ):
                    return process
        return None

    def _look(self) -> None:
        """Follow the packages and promote by rule in another process."""
        looking = self._start_look()
        began = time.monotonic()
        assert looking.wait(_LOOK_SECONDS) == 0
        self._look_seconds = time.monotonic() - began

    def _look_and_die(self) -> None:
        looking = self._start_look()
        with suppress(subprocess.TimeoutExpired):
            looking.wait(self.chance.uniform(0, self._look_seconds))
        looking.kill()
        self.killed["look"] += looking.wait() != 0

    def _start_look(self) -> subprocess.Popen[bytes]:
        """Start a process that follows the packages, and wait until it begins."""
        jobs = self.pipeline.retraining.jobs
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.sagemaker.retraining.followed_versions", self.model],
            cwd=PROJECT_ROOT,
            env={**os.environ, **jobs.environment, "AWS_ENDPOINT_URL_SAGEMAKER": self.executor.url},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == BEGINS
        return process


@pytest.fixture
def retrainings(jobs: ScoringJobs, tmp_path: Path) -> Iterator[WholeRetrainings]:
    """Give a model with 100 days of data, and its pipeline on its own executor."""
    model = f"drilled_{uuid.uuid4().hex[:8]}"
    package = f"{model}.defs.churn"
    for name, text in (FUNCTIONS | {"train": TRAIN}).items():
        jobs.upload_script(f"{package.replace('.', '/')}/{name}.py", text)
    inputs = inputs_of(package)
    (visits,) = inputs.sources
    inputs = replace(
        inputs,
        model=model,
        sources=(replace(visits, path=f"raw/{model}/{{partition}}.csv"),),
        judging=Judging(is_approved_by_rule=True),
    )
    schema_key = f"models/{model}/schema.json"
    documents = dict([inputs.to_document(), (schema_key, schema_document())])
    days = [FIRST_DAY.later(number) for number in range(100)]
    documents |= {
        f"raw/{model}/{day}.csv": visits_of(str(day), rate=10 + number) for number, day in enumerate(days)
    }
    for key, content in documents.items():
        jobs.client("s3").put_object(Bucket=jobs.bucket, Key=key, Body=content)
    training = Training(window=3, held_out=3, gap=0)
    retraining = RetrainingJobs(jobs, inputs, schema_key, training)
    environment = jobs.environment
    deployment = Deployment("local", environment["MLPIPE_ACCOUNT_ID"], environment["AWS_REGION"])
    executor = Executor(environment["AWS_ENDPOINT_URL"], tmp_path / "state", ("--stop-grace-seconds", "5"))
    executor.start()
    try:
        client = executor.client("sagemaker")
        pipeline = RetrainingPipeline(retraining, client, deployment.model_package_group(model))
        pipeline.create(IMAGE)
        registry = RegistryTable(jobs.client("dynamodb"), environment["MLPIPE_REGISTRY_TABLE"])
        seed = random.randrange(2**32)
        _LOG.warning("seed %d", seed)
        yield WholeRetrainings(pipeline, executor, registry, random.Random(seed))
    finally:
        executor.stop()


@pytest.mark.drill
@pytest.mark.timeout(7200)
def test_killed_retrainings_register_once_and_promote_only_approved(
    retrainings: WholeRetrainings,
) -> None:
    """After 40 kills each plan has at most one package, and every champion was approved."""
    kills = 40
    retrainings.run_whole()
    for _ in range(2 * kills):
        if retrainings.killed.total() >= kills:
            break
        retrainings.kill_and_go_on()
    _LOG.warning("killed: %s", retrainings.killed)
    assert retrainings.killed.total() >= kills
    retrainings.run_whole()
    retrainings.require_order()
