"""Tests that a SageMaker job finds only the packages of its image, and needs a known image."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from infra.environments.environment_cache import cache_folder, make_environment
from infra.environments.family_locking import lock_family
from model_declaration.job_requirements import FamilyFiles
from tests.infra.environments.small_locks import write_lock
from tests.infra.job_executor.job_stack import (
    BUCKET,
    IMAGE,
    ROOT,
    Aws,
    Executor,
    add_images,
    http,
    processing_request,
    sagemaker_end,
)

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

pytestmark = pytest.mark.stack

# Reports the packages that it can import, the image's packages tag, and the `python3` on its PATH.
LOOK = """
    import importlib.util, json, os, pathlib, shutil, sys
    seen = [name for name in ("iniconfig", "sortedcontainers", "boto3") if importlib.util.find_spec(name)]
    found = {"seen": seen, "held": os.environ["MLPIPE_IMAGE_PACKAGES"], "python": sys.executable}
    found["path"] = shutil.which("python3")
    folder = pathlib.Path(os.environ["MLPIPE_ML_ROOT"]) / "output"
    folder.mkdir(exist_ok=True)
    (folder / "message").write_text(json.dumps(found))
"""

# Trains a LightGBM booster, and loads it again from the bytes that the platform's codec saves.
BOOST = """
    import importlib.util, json, os, pathlib, sys
    sys.path.insert(0, sys.argv[1])
    import lightgbm, numpy, pandas
    from sagemaker_scripts.codecs.boosters import LightgbmModel
    rows = pandas.DataFrame({"x": numpy.arange(500) / 500})
    trained = lightgbm.LGBMRegressor(n_estimators=50, n_jobs=1, verbose=-1).fit(rows, rows["x"] * 2).booster_
    codec = LightgbmModel()
    predicted = codec.load(codec.save(trained)).predict(rows)
    seen = [name for name in ("dagster", "pytest", "psutil") if importlib.util.find_spec(name)]
    found = {"error": float(abs(predicted - rows["x"] * 2).mean()), "from": lightgbm.__file__, "seen": seen}
    (pathlib.Path(os.environ["MLPIPE_ML_ROOT"]) / "output" / "message").write_text(json.dumps(found))
"""


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return environments of one package each, by image URI."""
    folder = tmp_path_factory.mktemp("families")
    return {
        f"registry.example/jobs:{family}-1": make_environment(
            write_lock(folder, package), folder / "cache", say=print
        ).folder
        for family, package in (("plain", "iniconfig"), ("sorting", "sortedcontainers"))
    }


def look(executor: Executor, aws: Aws, name: str, image: str) -> dict[str, Any]:
    """Run a processing job in an image, and return what it reports."""
    request = processing_request(aws, name, LOOK)
    request["AppSpecification"]["ImageUri"] = image
    executor.client("sagemaker").create_processing_job(**request)
    return json.loads(sagemaker_end(executor, "Processing", name)["ExitMessage"])


def test_job_finds_only_packages_of_its_image(
    executor: Executor, aws: Aws, name: str, environments: dict[str, Path]
) -> None:
    """Jobs of two images see neither each other's packages nor the platform's."""
    add_images(executor.url, environments)
    for number, (image, folder) in enumerate(environments.items()):
        found = look(executor, aws, f"{name}-{number}", image)
        package = ["iniconfig", "sortedcontainers"][number]
        python = str(folder / "bin" / "python")
        assert found == {
            "seen": [package],
            "held": image,
            "python": python,
            "path": f"{python}3",
        }


def test_training_job_runs_in_its_image(
    executor: Executor, aws: Aws, name: str, environments: dict[str, Path]
) -> None:
    """A training job imports the packages of its image, as processing jobs do."""
    add_images(executor.url, environments)
    image = list(environments)[1]
    program = "import os, sortedcontainers; print('held', os.environ['MLPIPE_IMAGE_PACKAGES'])"
    executor.client("sagemaker").create_training_job(
        TrainingJobName=name,
        RoleArn=aws.sagemaker_role,
        AlgorithmSpecification={
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "-c", program],
        },
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/{name}/"},
        ResourceConfig={"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    assert sagemaker_end(executor, "Training", name)["TrainingJobStatus"] == "Completed"
    assert f"held {image}" in aws.logs("/aws/sagemaker/TrainingJobs", name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_lightgbm_environment_trains_and_saves(
    executor: Executor, aws: Aws, name: str, tmp_path: Path
) -> None:
    """A locked LightGBM environment trains and saves with the platform's code, but without Dagster."""
    (tmp_path / "boosting.in").write_text("lightgbm\n")
    base = ROOT / "requirements" / "scoring.lock"
    files = FamilyFiles("boosting", tmp_path / "boosting.in", tmp_path / "boosting.lock", base)
    lock_family(files)
    image = files.image().uri("registry.example/jobs")
    made = make_environment(files.lock, cache_folder(os.environ), say=print)
    add_images(executor.url, {image: made.folder})
    request = processing_request(aws, name, BOOST)
    request["AppSpecification"] |= {"ImageUri": image, "ContainerArguments": [str(ROOT)]}
    executor.client("sagemaker").create_processing_job(**request)
    job = sagemaker_end(executor, "Processing", name)
    assert job["ProcessingJobStatus"] == "Completed", job
    found = json.loads(job["ExitMessage"])
    assert found["error"] < 0.2
    assert found["from"].startswith(str(made.folder))
    assert found["seen"] == []


def test_unknown_image_is_refused(executor: Executor, aws: Aws, name: str) -> None:
    """A job with an unknown image is refused with a hint at `mlpipe up`, and is not created."""
    request = processing_request(aws, name, LOOK)
    request["AppSpecification"]["ImageUri"] = "registry.example/jobs:boosting-0123456789abcdef"
    client = executor.client("sagemaker")
    with pytest.raises(
        ClientError, match=r"Requested image registry.example/jobs:boosting-0.* not found"
    ) as raised:
        client.create_processing_job(**request)
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert "mlpipe up" in str(raised.value)
    with pytest.raises(ClientError, match="Could not find requested job"):
        client.describe_processing_job(ProcessingJobName=name)


def test_images_survive_restart_unless_removed(
    own_executor: Executor, aws: Aws, name: str, environments: dict[str, Path], tmp_path: Path
) -> None:
    """Images survive a restart, except those whose environment folder was removed."""
    (kept, folder), (gone, other) = environments.items()
    copy = tmp_path / "copy"
    shutil.copytree(other, copy, symlinks=True)
    add_images(own_executor.url, {kept: folder, gone: copy})
    own_executor.kill()
    shutil.rmtree(copy)
    own_executor.start()
    assert look(own_executor, aws, name, kept)["seen"] == ["iniconfig"]
    with pytest.raises(ClientError, match="not found"):
        look(own_executor, aws, f"{name}-2", gone)


def test_damaged_image_list_does_not_stop_executor(own_executor: Executor) -> None:
    """An executor with a damaged image list starts without images, and they can be added again."""
    own_executor.stop()
    (own_executor.state_dir / "images.json").write_text('{"images": ')
    own_executor.start()
    assert list(add_images(own_executor.url, {})) == [IMAGE]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("[]", "images must be an object"),
        (
            '{"images": {"a:1": {"packages": "a-1"}}}',
            "image a:1 must have the strings environment and packages",
        ),
        ('{"images": {"a:1": {"packages": "a-1", "environment": 7}}}', "image a:1 must have the strings"),
        ('{"images": {"a:1": {"packages": "a-1", "environment": "/nowhere"}}}', "/nowhere/bin"),
    ],
)
def test_invalid_image_is_not_added(executor: Executor, document: str, said: str) -> None:
    """An invalid image is refused with the fault named, and the list of images stays unchanged."""
    before = http("GET", f"{executor.url}/_executor/images")
    headers = {"Content-Type": "application/json"}
    status, answer = http("POST", f"{executor.url}/_executor/images", document.encode(), **headers)
    assert (status, said in json.loads(answer)["message"]) == (400, True)
    assert http("GET", f"{executor.url}/_executor/images") == before
