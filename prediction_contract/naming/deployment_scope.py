"""The parts of every resource name: stage, account and region, with their validation."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Self

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import MODEL_PATTERN, ModelName

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "mlpipe"
# Every resource, job and task of a stage has this tag. The stage's budget sums the cost by it.
STAGE_TAG = f"{PREFIX}:stage"

MODEL = re.compile(MODEL_PATTERN)
STAGE = re.compile(r"[a-z][a-z0-9]{0,11}")
_ACCOUNT = re.compile(r"[0-9]{12}")
REGION = re.compile(r"[a-z]{2,4}(-[a-z]{2,12}){1,2}-[0-9]{1,2}")


def validated(pattern: re.Pattern[str], value: str, what: str) -> str:
    """Return the value unchanged if it matches completely.

    Args:
        pattern: The pattern.
        value: The value to check.
        what: A description of the value for the error message.

    Raises:
        InvalidNameError: The value does not match.
    """
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidNameError(
            f"{what} {str(value)[:80]!r} does not have the form {pattern.pattern}",
            remedy=f"Give the {what} in that form",
        )
    return value


def model_name_stem(model: str) -> str:
    """Return a model's name for use as a prefix of other names: `churn`, and `1_churn` for `churn_`.

    The suffixes begin with `_`, so names for `churn` and `churn_` could be equal. Therefore the number of
    trailing underscores is put before the name. Model names never begin with a digit, so this is unambiguous.

    Raises:
        InvalidNameError: It is not a model name.
    """
    stem = ModelName(model).rstrip("_")
    trailing = len(model) - len(stem)
    return f"{trailing}_{stem}" if trailing else stem


def require_distinct_model_names(files: Mapping[str, object]) -> None:
    """Refuse two models whose names have the same letters and digits.

    CloudFormation's logical ids contain only those, so `ab` and `a_b` would be the same resource.

    Args:
        files: The declaring file of each model, by the model's name.

    Raises:
        InvalidNameError: There are two such models; the message names them and their files.
    """
    known: dict[str, str] = {}
    for model in sorted(files):
        other = known.setdefault(model_name_stem(model).replace("_", ""), model)
        if other != model:
            raise InvalidNameError(
                f"Models {other} ({files[other]}) and {model} ({files[model]}) have the same letters and "
                "digits, and names in CloudFormation consist of these only",
                remedy="Rename the folder of the one that has no batches yet",
            )


@dataclasses.dataclass(frozen=True, slots=True)
class DeploymentScope:
    """One stage of the platform as seen from one region.

    Args:
        stage: `local`, `dev`, `prod`, ...; `[a-z][a-z0-9]{0,11}`.
        account_id: The AWS account, twelve digits.
        region: The region of names and ARNs.
        home_region: The only region that writes; None if it is `region`.

    Raises:
        InvalidNameError: A part does not have its form.
    """

    stage: str
    account_id: str
    region: str
    home_region: str | None = None

    def __post_init__(self) -> None:
        validated(STAGE, self.stage, "stage")
        validated(_ACCOUNT, self.account_id, "account id")
        validated(REGION, self.region, "region")
        if self.home_region is not None:
            validated(REGION, self.home_region, "home region")

    @property
    def home(self) -> str:
        """The region that writes."""
        return self.home_region or self.region

    @property
    def is_home(self) -> bool:
        """Whether this region is the one that writes."""
        return self.home == self.region

    @property
    def partition(self) -> str:
        """The AWS partition of the region, the second field of every ARN."""
        if self.region.startswith("cn-"):
            return "aws-cn"
        return "aws-us-gov" if self.region.startswith("us-gov-") else "aws"

    def in_region(self, region: str) -> Self:
        """Return the same deployment as seen from another region, with the same home region."""
        return dataclasses.replace(self, region=region, home_region=self.home)

    def _name(self, suffix: str) -> str:
        return f"{PREFIX}-{self.stage}-{suffix}"

    def _arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        scope = self.region if region is None else region
        return f"arn:{self.partition}:{service}:{scope}:{self.account_id}:{resource}"

    def secret_arn_pattern(self, name: str) -> str:
        """Return the ARN pattern of a secret; Secrets Manager appends six random characters."""
        return self._arn("secretsmanager", f"secret:{name}-??????")

    def log_group_arn(self, log_group: str) -> str:
        """Return the ARN of a log group; append `:*` for its streams."""
        return self._arn("logs", f"log-group:{log_group}")
