"""Follow a model's packages once and promote by rule, as the model versions sensor does.

Drills kill it. `python -m tests.sagemaker.retraining.followed_versions MODEL` prints `begins` first.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.versions.followed_packages import follow_packages
from mlpipe_dagster.versions.model_packages import ModelPackages
from mlpipe_dagster.versions.promotion_by_rule import promote_by_rule

BEGINS = b"begins\n"


def main(model: str) -> None:
    """Follow a model's packages and promote by rule, once."""
    platform = Platform()
    packages = ModelPackages(platform.client("sagemaker"), platform.settings.deployment, platform.bucket)
    sys.stdout.buffer.write(BEGINS)
    sys.stdout.buffer.flush()
    followed = follow_packages(packages, platform.registry, model)
    assert not followed.unusable, followed.unusable
    versions = followed.versions.values()
    promote_by_rule(platform.registry, model, versions, actor="drill", now=datetime.now(UTC))


if __name__ == "__main__":
    main(sys.argv[1])
