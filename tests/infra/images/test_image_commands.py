"""Tests of the documented commands that build and push images."""

from __future__ import annotations

import re

from infra.packaging import PLATFORM
from tests.infra.example_stages import STAGES

GUIDE = PLATFORM / "docs" / "deployment.md"


def test_images_are_not_pushed_as_oci_index() -> None:
    """Provenance, SBOM and OCI media types are switched off, because SageMaker refuses such images."""
    text = re.sub(r"\\\n *", "", GUIDE.read_text(encoding="utf-8"))
    assert "docker build " not in text
    (command,) = re.findall("docker buildx build .*", text)
    for option in ("--provenance=false", "--sbom=false", "oci-mediatypes=false,push=true"):
        assert option in command


def test_images_are_built_for_their_processor_and_repository() -> None:
    """Dagster's image is built for ARM and jobs' images for x86, each for its own repository."""
    names = STAGES["prod"].deployment()
    built = re.findall(
        r"^ *build (linux/\S+) (\S+):.+ (\S+)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert built == [
        ("linux/arm64", names.dagster_image_repository, ".mlpipe/images/dagster"),
        ("linux/amd64", names.job_image_repository, "$folder"),
    ]
