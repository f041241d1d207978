"""The commands that build images: what they push, SageMaker takes."""

from __future__ import annotations

import re

from infra.packaging import PLATFORM
from tests.infra.example_stages import STAGES

GUIDE = PLATFORM / "docs" / "deployment.md"


def test_no_image_is_pushed_as_an_oci_index() -> None:
    """SageMaker refuses an index, which BuildKit makes for provenance or an SBOM, and OCI's media types."""
    text = re.sub(r"\\\n *", "", GUIDE.read_text(encoding="utf-8"))
    assert "docker build " not in text
    (command,) = re.findall("docker buildx build .*", text)
    for option in ("--provenance=false", "--sbom=false", "oci-mediatypes=false,push=true"):
        assert option in command


def test_each_image_is_built_for_its_processor_and_repository() -> None:
    """Dagster's tasks run on ARM, SageMaker's jobs on x86; another processor fails at the start alone."""
    names = STAGES["prod"].deployment()
    built = re.findall(
        r"^ *build (linux/\S+) (\S+):.+ (\S+)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert built == [
        ("linux/arm64", names.dagster_image_repository, ".mlpipe/images/dagster"),
        ("linux/amd64", names.job_image_repository, "$folder"),
    ]
