"""The access of models' sources on a stage: the whole data bucket, and the buckets and secrets it lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.permissions.source_rights import source_statements
from model_declaration.declaration_files import field_location
from prediction_contract.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from infra.permissions.policy_statements import Statement
    from infra.provisioned_models import ProvisionedModel
    from infra.settings import StageSettings


class SourceRefusedError(ContractError):
    """A source uses a bucket or a secret that its stage does not allow."""


def stage_source_statements(
    settings: StageSettings, models: Iterable[ProvisionedModel]
) -> tuple[Statement, ...]:
    """Return the statements that let SageMaker's jobs read the sources of models on a stage.

    Raises:
        SourceRefusedError: Sources use buckets or secrets that the stage does not allow. The message names
            all of them with file and line.
        SourceRightsError: No narrow right can be derived from a source.
    """
    models = tuple(models)
    if faults := [fault for model in models for fault in _faults(settings, model)]:
        raise SourceRefusedError(
            "; ".join(faults),
            remedy=f"Add it to source_buckets or source_secrets of {settings.stage} in stages.yaml, or read "
            "from the data bucket",
        )
    keys = {each.name: each.key_arn for each in settings.source_buckets if each.key_arn}
    return source_statements(settings.deployment(), [model.inputs for model in models], keys)


def named_buckets(models: Iterable[ProvisionedModel]) -> tuple[str, ...]:
    """Return the buckets that models name other than the data bucket, sorted."""
    return tuple(sorted(keys_in_other_buckets(models)))


def keys_in_other_buckets(models: Iterable[ProvisionedModel]) -> dict[str, set[str]]:
    """Return the key prefixes that models read in other buckets than the data bucket, by bucket."""
    found: dict[str, set[str]] = {}
    for model in models:
        for source in model.inputs.sources:
            if source.bucket:
                found.setdefault(source.bucket, set()).update({source.beginning} if source.path else ())
        elsewhere = model.inputs.trained_elsewhere
        if elsewhere is not None and elsewhere.bucket:
            found.setdefault(elsewhere.bucket, set()).add(elsewhere.key)
    return found


def named_secrets(models: Iterable[ProvisionedModel]) -> tuple[str, ...]:
    """Return the secrets with which sources of models log in, sorted."""
    return tuple(
        sorted({source.secret for each in models for source in each.inputs.sources if source.secret})
    )


def _faults(settings: StageSettings, model: ProvisionedModel) -> Iterator[str]:
    buckets = {each.name for each in settings.source_buckets} | {settings.deployment().data_bucket}
    named: list[tuple[str | None, tuple[str, ...]]] = [
        (source.bucket, ("sources", source.name, "bucket")) for source in model.inputs.sources
    ]
    elsewhere = model.inputs.trained_elsewhere
    if elsewhere is not None:
        named.append((elsewhere.bucket, ("model", "bucket")))
    for bucket, field in named:
        if bucket is not None and bucket not in buckets:
            location = field_location(model.file, *field)
            yield f"{location}: stage {settings.stage} does not allow the bucket {bucket}"
    for source in model.inputs.sources:
        if source.secret is not None and source.secret not in settings.source_secrets:
            location = field_location(model.file, "sources", source.name, "secret")
            yield f"{location}: stage {settings.stage} does not allow the secret {source.secret}"
