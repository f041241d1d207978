"""Test that retraining scripts killed at random moments repeat with the same plan, model and verdict."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from infra.packaging import PLATFORM
from prediction_batches.object_store import ObjectStore
from prediction_contract.naming.s3_layout import (
    PLAN_NAME,
    VERDICT_NAME,
    candidates_prefix,
    model_features_prefix,
    retraining_prefix,
)
from tests.sagemaker.retraining.retraining_jobs import retraining_jobs

if TYPE_CHECKING:
    from pathlib import Path

    from prediction_contract.jobs.retraining_arguments import RetrainingStepArguments
    from tests.sagemaker.retraining.retraining_jobs import RetrainingJobs
    from tests.sagemaker.scoring_jobs import ScoringJobs

pytestmark = pytest.mark.stack
_LOG = logging.getLogger(__name__)
_SCRIPT_SECONDS = 300
EXECUTION, LAST = "killed", "2013-02-14"
STEPS = ("plan_retraining.py", "train_model.py", "judge_models.py")


@dataclass
class KilledRetraining:
    """The retraining of one model, whose undisturbed run gives the result that repeated runs must match.

    Attributes:
        retraining: Builds the arguments of each step.
        store: The data bucket.
        folder: Holds the files of the containers.
        chance: Decides when to kill.
    """

    retraining: RetrainingJobs
    store: ObjectStore
    folder: Path
    chance: random.Random
    _runs: int = 0
    _candidate: str = ""
    _seconds: dict[str, float] = field(default_factory=dict)
    _whole: dict[str, Any] = field(default_factory=dict)

    def run_whole(self) -> None:
        """Run each step once without kills, and keep its result and duration."""
        for step in STEPS:
            began = time.monotonic()
            root = self._run(step)
            self._seconds[step] = time.monotonic() - began
            if step == "train_model.py":
                self._candidate = self._packed(root)
            self._whole[step] = self._left(step, root)

    def kill_and_repeat(self, step: str) -> bool:
        """Kill a step at a random moment, repeat it and compare; return whether it was still running."""
        self._forget(step)
        is_killed = self._killed(step)
        began = time.monotonic()
        root = self._run(step)
        # Kill times follow the latest duration, because the machine's load changes.
        self._seconds[step] = time.monotonic() - began
        assert self._left(step, root) == self._whole[step]
        return is_killed

    def _left(self, step: str, root: Path) -> Any:
        """Return the result of a step: the plan, the digest of the trained objects, or the verdict."""
        if step == "train_model.py":
            return json.loads((root / "model" / "model.json").read_text())["model_version"]
        output, name = ("plan", PLAN_NAME) if step == STEPS[0] else ("verdict", VERDICT_NAME)
        prefix = retraining_prefix(self.retraining.model, EXECUTION)
        content = self.store.get(f"{prefix}{name}")
        assert (root / "processing" / "output" / output / name).read_bytes() == content
        return content

    def _forget(self, step: str) -> None:
        """Delete the result of a step, so that it starts from nothing."""
        model = self.retraining.model
        if step == STEPS[0]:
            gone = [*self._keys(model_features_prefix(model)), *self._keys(f"models/{model}/retraining/")]
        elif step == STEPS[2]:
            gone = [f"{retraining_prefix(model, EXECUTION)}{VERDICT_NAME}"]
        else:
            gone = []
        for key in gone:
            self.store.client.delete_object(Bucket=self.store.bucket, Key=key)

    def _keys(self, prefix: str) -> list[str]:
        return [entry.key for entry in self.store.listing(prefix)]

    def _killed(self, step: str) -> bool:
        process, _ = self._start(step)
        try:
            process.wait(self.chance.uniform(0, self._seconds[step]))
        except subprocess.TimeoutExpired:
            process.kill()
        return process.wait() == -signal.SIGKILL

    def _run(self, step: str) -> Path:
        process, root = self._start(step)
        assert process.wait(_SCRIPT_SECONDS) == 0, (root / "log").read_text()[-4000:]
        return root

    def _start(self, step: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a step's script with its own container folder."""
        self._runs += 1
        root = self.folder / f"{self._runs}"
        root.mkdir()
        command = [sys.executable, str(PLATFORM / "sagemaker_scripts" / step)]
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *self._arguments(step).container_arguments()],
                env={**os.environ, **self.retraining.jobs.environment, "MLPIPE_ML_ROOT": str(root)},
                stdout=log,
                stderr=log,
            )
        return process, root

    def _arguments(self, step: str) -> RetrainingStepArguments:
        if step == STEPS[0]:
            return self.retraining.plan_arguments(EXECUTION, LAST)
        if step == STEPS[1]:
            return self.retraining.train_arguments(EXECUTION)
        return self.retraining.judge_arguments(EXECUTION, self._candidate)

    def _packed(self, root: Path) -> str:
        """Upload the archive that SageMaker makes of a trained model, and return its address."""
        path = root / "model.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(root / "model", arcname=".")
        key = f"{candidates_prefix(self.retraining.model)}job/output/model.tar.gz"
        self.store.put_file(key, path)
        return self.store.address(key)


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_killed_step_repeats_with_same_result(jobs: ScoringJobs, tmp_path: Path) -> None:
    """A step killed at a random moment and repeated yields the same plan, trained objects or verdict."""
    seed, kills = random.randrange(2**32), 60
    _LOG.warning("seed %d", seed)
    store = ObjectStore(jobs.client("s3"), jobs.bucket)
    retraining = KilledRetraining(retraining_jobs(jobs), store, tmp_path, random.Random(seed))
    retraining.run_whole()
    killed: Counter[str] = Counter()
    for number in range(2 * kills):
        if killed.total() == kills:
            break
        step = STEPS[number % len(STEPS)]
        killed[step] += retraining.kill_and_repeat(step)
    assert killed.total() == kills
    assert all(killed[step] for step in STEPS)
