"""The commands that build images: what they push, SageMaker takes."""

from __future__ import annotations

import re

from infra.packaging import PLATFORM
from tests.infra.example_stages import STAGES

PLACES = ("docs/deployment.md", "infra/images/dagster/Dockerfile", "infra/images/sagemaker/Dockerfile")


def test_no_image_is_pushed_as_an_oci_index() -> None:
    """SageMaker refuses an index, which BuildKit makes for provenance or an SBOM, and OCI's media types."""
    for place in PLACES:
        text = re.sub(r"\\\n(#  )? *", "", (PLATFORM / place).read_text(encoding="utf-8"))
        assert "docker build " not in text, place
        commands = re.findall("docker buildx build .*", text)
        assert commands, place
        for command in commands:
            for option in ("--provenance=false", "--sbom=false", "oci-mediatypes=false,push=true"):
                assert option in command, (place, command)


def test_each_image_is_built_for_its_processor_and_repository() -> None:
    """Dagster's tasks run on ARM, SageMaker's jobs on x86; another processor fails at the start alone."""
    guide = (PLATFORM / "docs" / "deployment.md").read_text(encoding="utf-8")
    names = STAGES["prod"].deployment()
    assert re.findall(r"^build (linux/.*)", guide, re.MULTILINE) == [
        f"linux/arm64 dagster {names.dagster_image_repository}",
        f"linux/amd64 sagemaker {names.job_image_repository}",
    ]
