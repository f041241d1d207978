"""How an image of jobs is named, and when a job refuses to run in one."""

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


def test_an_image_is_named_by_its_family_and_its_lock() -> None:
    """Another lock is another image; the name says which file to look into."""
    digest = hashlib.sha256(LOCK).hexdigest()
    repository = "000000000000.dkr.ecr.us-east-1.amazonaws.com/mlpipe-prod-jobs"
    assert IMAGE.uri(repository) == f"{repository}:boosting-{digest[:16]}"
    assert IMAGE.tag != JobImage.of_lock("boosting", LOCK + b"\n").tag


@pytest.mark.parametrize("family", ["", "Boosting", "1st", "a" * 42, "a-b", "a/b", "boosting\n"])
def test_a_family_is_a_plain_name(family: str) -> None:
    """It becomes part of a file's name and of an image's tag."""
    with pytest.raises(JobImageError, match="is not the name of a family of requirements"):
        JobImage.of_lock(family, LOCK)


def test_a_job_works_in_the_image_that_it_needs() -> None:
    """So does a job that nobody told what it needs."""
    require_needed_packages({**IMAGE.job_environment, HELD_VARIABLE: IMAGE.tag})
    require_needed_packages({HELD_VARIABLE: IMAGE.tag})


@pytest.mark.parametrize("held", [None, "", "base-0123456789abcdef"])
def test_a_job_refuses_another_image(held: str | None) -> None:
    """Its packages may lack a library, or read a model otherwise than it was written."""
    environment = {NEEDED_VARIABLE: IMAGE.tag} | ({} if held is None else {HELD_VARIABLE: held})
    with pytest.raises(
        JobImageError, match=f"The job needs the packages {IMAGE.tag}, but this image"
    ) as told:
        require_needed_packages(environment)
    assert (held or HELD_VARIABLE) in str(told.value)
