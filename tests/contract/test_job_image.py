"""Tests of the names of job images, and of jobs that refuse to run in a wrong image."""

from __future__ import annotations

import hashlib

import pytest

from prediction_contract.jobs.job_image import (
    HELD_VARIABLE,
    NEEDED_VARIABLE,
    JobImage,
    JobImageError,
    require_needed_packages,
)

LOCK = b"pandas==3.1.1 --hash=sha256:0\n"
IMAGE = JobImage.of_lock("boosting", LOCK)


def test_image_tag_contains_family_and_lock_digest() -> None:
    """An image's tag names its family and its lock file's digest, so another lock gives another tag."""
    digest = hashlib.sha256(LOCK).hexdigest()
    repository = "000000000000.dkr.ecr.us-east-1.amazonaws.com/mlpipe-prod-jobs"
    assert IMAGE.uri(repository) == f"{repository}:boosting-{digest[:16]}"
    assert IMAGE.tag != JobImage.of_lock("boosting", LOCK + b"\n").tag


@pytest.mark.parametrize("family", ["", "Boosting", "1st", "a" * 42, "a-b", "a/b", "boosting\n"])
def test_malformed_family_is_refused(family: str) -> None:
    """A family name that cannot be part of a file name and an image tag is refused."""
    with pytest.raises(JobImageError, match="is not the name of a family of requirements"):
        JobImage.of_lock(family, LOCK)


def test_job_runs_in_the_required_image() -> None:
    """A job runs in the image that it requires, or in any image if it requires none."""
    require_needed_packages({**IMAGE.job_environment, HELD_VARIABLE: IMAGE.tag})
    require_needed_packages({HELD_VARIABLE: IMAGE.tag})


@pytest.mark.parametrize("held", [None, "", "base-0123456789abcdef"])
def test_job_refuses_a_wrong_image(held: str | None) -> None:
    """A job refuses an image with other packages than it requires, and the error names the packages."""
    environment = {NEEDED_VARIABLE: IMAGE.tag} | ({} if held is None else {HELD_VARIABLE: held})
    with pytest.raises(
        JobImageError, match=f"The job needs the packages {IMAGE.tag}, but this image"
    ) as refusal:
        require_needed_packages(environment)
    assert (held or HELD_VARIABLE) in str(refusal.value)
