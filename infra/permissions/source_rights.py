"""Rights of jobs to read exactly the data that the sources of models name."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from infra.permissions.policy_statements import allow, allow_detecting_missing_keys
from prediction_contract.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from infra.permissions.policy_statements import Statement
    from prediction_contract.jobs.model_inputs import ModelInputs, Source
    from prediction_contract.naming.resource_names import Deployment

READ_SOURCES, READ_SOURCE_SECRETS = "ReadSources", "ReadSourceSecrets"
# From its first placeholder or star on, a path differs between partitions.
_VARIABLE = re.compile(r"[{*]")
# IAM patterns of the placeholders' values, valid for every kind of partition.
_SHAPES = {"{date}": "????-??-??", "{partition}": "????-", "{hour}": "??"}
# Characters with a meaning in IAM, which a policy must escape.
_SPECIAL_CHARACTERS = re.compile(r"[$?]")
# A role's inline policies have 10,240 characters; the rest of this role's takes 3,100 at most.
MAX_CHARACTERS = 6_000


class SourceRightsError(ContractError):
    """No narrow right can be derived from a model's source."""


class _Read(NamedTuple):
    """A key, or with a final star all keys with this prefix."""

    bucket: str
    pattern: str


def source_statements(
    deployment: Deployment, models: Iterable[ModelInputs], keys: Mapping[str, str] | None = None
) -> tuple[Statement, ...]:
    """Return the statements that let a role read the sources of models, and models trained elsewhere.

    Args:
        deployment: The deployment of the data bucket.
        models: The inputs of each model.
        keys: The ARNs of KMS keys by bucket, for other buckets that are encrypted with their own key.

    Raises:
        SourceRightsError: A source would open a whole bucket, or the role's policy grows too long.
    """
    models = tuple(models)
    reads = _without_covered({read for model in models for read in _reads(deployment, model)})
    if not reads:
        return _secrets(deployment, models)
    arns = [f"arn:{deployment.partition}:s3:::{read.bucket}/{read.pattern}" for read in reads]
    buckets = sorted({read.bucket for read in reads}, key=lambda name: (name != deployment.data_bucket, name))
    found = (
        allow(READ_SOURCES, ["s3:GetObject"], arns),
        *(
            allow(
                f"ListSources{number}",
                ["s3:ListBucket"],
                [f"arn:{deployment.partition}:s3:::{bucket}"],
                StringLike={"s3:prefix": [read.pattern for read in reads if read.bucket == bucket]},
            )
            for number, bucket in enumerate(buckets, start=1)
        ),
        *_missing(deployment, models),
        *_keys(sorted({keys[bucket] for bucket in buckets if bucket in keys}) if keys else ()),
        *_secrets(deployment, models),
    )
    if (size := len(json.dumps(found, separators=(",", ":")))) > MAX_CHARACTERS:
        raise SourceRightsError(
            f"The permissions to read the sources of {len(models)} models need {size} characters; the role's "
            f"policy has room for {MAX_CHARACTERS}",
            remedy="Store sources below common prefixes, or let several models use the same path",
        )
    return found


def _reads(deployment: Deployment, model: ModelInputs) -> set[_Read]:
    found = {
        _Read(source.bucket or deployment.data_bucket, _pattern(model, source))
        for source in model.sources
        if source.path
    }
    elsewhere = model.trained_elsewhere
    if elsewhere is not None:
        found.add(_Read(elsewhere.bucket or deployment.data_bucket, _plain(elsewhere.key)))
    return found


def _pattern(model: ModelInputs, source: Source) -> str:
    variable = _VARIABLE.search(source.path)
    beginning = source.path[: variable.start()] if variable else source.path
    if not beginning.strip("/"):
        raise SourceRightsError(
            f"The source {source.name} reads a whole bucket: its path {source.path} has no fixed beginning",
            remedy="Begin the path with the folder of its keys, such as raw/orders/",
            model=model.model,
        )
    if source.format == "delta" and not variable:
        # The table's files and its log.
        return f"{_plain(beginning.rstrip('/'))}/*"
    if not variable:
        return f"{_plain(beginning)}*" if beginning.endswith("/") else _plain(beginning)
    return f"{_plain(beginning)}{_shape(source, beginning)}*"


def _shape(source: Source, beginning: str) -> str:
    """Return the pattern at the variable part's start, if neighbouring folders may share the prefix.

    All keys below `raw/orders/dt=` belong to the source, but `raw/orders-` also begins `raw/orders-secret/`.
    A project's reader may read any key with its path's prefix.
    """
    if source.format == "reader" or beginning.endswith(("/", "=")):
        return ""
    rest = source.path[len(beginning) :]
    return next((shape for placeholder, shape in _SHAPES.items() if rest.startswith(placeholder)), "")


def _plain(text: str) -> str:
    return _SPECIAL_CHARACTERS.sub(lambda sign: f"${{{sign[0]}}}", text)


def _without_covered(reads: set[_Read]) -> list[_Read]:
    """Return the reads that no other read includes, sorted."""
    found: list[_Read] = []
    for read in sorted(
        reads, key=lambda each: (each.bucket, each.pattern.rstrip("*"), each.pattern[-1] != "*")
    ):
        if not any(other.bucket == read.bucket and _covers(other.pattern, read.pattern) for other in found):
            found.append(read)
    return found


def _covers(pattern: str, other: str) -> bool:
    return pattern.endswith("*") and other.startswith(pattern[:-1])


def _missing(deployment: Deployment, models: Iterable[ModelInputs]) -> tuple[Statement, ...]:
    """Return the statement with which S3 answers 404 for missing keys in other buckets with Delta tables."""
    buckets = {
        source.bucket
        for model in models
        for source in model.sources
        if source.format == "delta" and source.bucket not in {None, deployment.data_bucket}
    }
    arns = [f"arn:{deployment.partition}:s3:::{bucket}" for bucket in sorted(filter(None, buckets))]
    return (allow_detecting_missing_keys(*arns, sid="TellMissingSourceKeys"),) if arns else ()


def _keys(arns: Iterable[str]) -> tuple[Statement, ...]:
    arns = list(arns)
    return (allow("UseSourceKeys", ["kms:Decrypt"], arns),) if arns else ()


def _secrets(deployment: Deployment, models: Iterable[ModelInputs]) -> tuple[Statement, ...]:
    names = sorted({source.secret for model in models for source in model.sources if source.secret})
    arns = [deployment.secret_arn_pattern(name) for name in names]
    return (allow(READ_SOURCE_SECRETS, ["secretsmanager:GetSecretValue"], arns),) if arns else ()
