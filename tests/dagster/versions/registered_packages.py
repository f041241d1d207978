"""Model packages are registered on the local stack as by a retraining pipeline."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.versions.followed_packages import follow_packages
from mlpipe_dagster.versions.model_packages import ModelPackages
from prediction_contract.jobs.verdict import APPROVED, MetricComparison, SliceComparison, Verdict
from prediction_contract.naming.s3_layout import VERDICT_NAME, candidates_prefix, retraining_prefix
from prediction_contract.registry.table import RegistryTable

if TYPE_CHECKING:
    from mlpipe_dagster.resources.platform import Platform
    from prediction_contract.registry.version_records import ModelVersion

MAE = MetricComparison(
    name="mae",
    better="lower",
    rows=5000,
    candidate=20.0,
    champion=22.0,
    gain=0.09,
    gain_low=0.05,
    baselines={"train_mean": 25.0},
    beats_baselines=True,
)
JFK = SliceComparison(column="origin", value="JFK", rows=900, candidate=21.0, champion=20.0, is_worse=True)
EWR = replace(JFK, value="EWR", candidate=18.0, is_worse=False)


def digest_of(name: str) -> str:
    """Return a digest that depends only on a name."""
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass
class RegisteredPackages:
    """The model packages of one model.

    Attributes:
        platform: Where the packages are registered.
        model: The model's name.
    """

    platform: Platform
    model: str

    def __post_init__(self) -> None:
        """Create the model package group."""
        self.group = self.platform.settings.deployment.model_package_group(self.model)
        self.sagemaker = self.platform.client("sagemaker")
        self.sagemaker.create_model_package_group(ModelPackageGroupName=self.group)
        self.packages = ModelPackages(self.sagemaker, self.platform.settings.deployment, self.platform.bucket)

    @property
    def registry(self) -> RegistryTable:
        """Return the registry."""
        return self.platform.registry

    def follow(self) -> None:
        """Record all packages in the registry."""
        follow_packages(self.packages, self.registry, self.model)

    def record(self, version: int) -> ModelVersion:
        """Return the registry's record of a version."""
        found = self.registry.model_version(self.model, version)
        assert found is not None
        return found

    def verdict(self, execution: str, **changes: Any) -> Verdict:
        """Return the verdict of an execution."""
        said: dict[str, Any] = {
            "model": self.model,
            "execution_id": execution,
            "candidate_digest": digest_of(execution)[:16],
            "candidate_key": f"{candidates_prefix(self.model)}{execution}/output/model.tar.gz",
            "candidate_sha256": digest_of(execution),
            "champion_version": 0,
            "champion_digest": "",
            "trained_until": "2013-01-31",
            "first_held_out": "2013-02-02",
            "last_held_out": "2013-02-15",
            "is_new": 1,
            "better": 1,
            "worse_slices": 0,
            "needs_person": 0,
            "approval": APPROVED,
            "reason": "mae 20 is better than all baselines",
            "metrics": (MAE,),
            "slices": (EWR,),
        }
        return Verdict(**{**said, **changes})

    def register(
        self,
        execution: str = "exec1",
        *,
        approval: str | None = None,
        said: dict[str, str] | None = None,
        **judged: Any,
    ) -> int:
        """Store an archive and a verdict, register the package as the pipeline does; return its version.

        Args:
            execution: The execution's id.
            approval: The package's first approval status; the verdict's unless given.
            said: Changes of the package's properties.
            judged: Changes of the verdict.
        """
        verdict = self.verdict(execution, **judged)
        key = f"{retraining_prefix(self.model, execution)}{VERDICT_NAME}"
        self.platform.bucket.put(key, verdict.to_bytes())
        self.platform.bucket.put(verdict.candidate_key, b"an archive")
        properties = {
            "digest": verdict.candidate_digest,
            "sha256": verdict.candidate_sha256,
            "execution": execution,
            "verdict": key,
            "judged_against": str(verdict.champion_version),
            "trained_until": verdict.trained_until,
            "code_version": "0123456789abcdef",
            **(said or {}),
        }
        return self.create(
            f"s3://{self.platform.settings.data_bucket}/{verdict.candidate_key}",
            approval or verdict.approval,
            {name: value for name, value in properties.items() if value},
        )

    def create(self, artifact: str, approval: str, properties: dict[str, str]) -> int:
        """Create a model package, and return its version."""
        container = {"Image": "registry.example/jobs:1", "ModelDataUrl": artifact}
        made = self.sagemaker.create_model_package(
            ModelPackageGroupName=self.group,
            InferenceSpecification={"Containers": [container]},
            ModelApprovalStatus=approval,
            CustomerMetadataProperties=properties,
            SkipModelValidation="All",
        )
        return int(made["ModelPackageArn"].rpartition("/")[2])

    def decide(self, version: int, approval: str, words: str = "looked at it") -> None:
        """Approve or reject a package on behalf of a person."""
        self.sagemaker.update_model_package(
            ModelPackageArn=self.packages.arn(self.model, version),
            ModelApprovalStatus=approval,
            ApprovalDescription=words,
        )
