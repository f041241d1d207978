"""`mlpipe models register`: registers a model that was trained elsewhere as a candidate version."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence
from itertools import islice

from mlpipe_dagster.cli.command_output import CommandResult, Fields
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.versions.package_registration import (
    ExternalModelFile,
    RegistrationError,
    register_file,
    require_file,
)
from mlpipe_dagster.installed_platform import PLATFORM
from prediction_contract.errors import InvalidNameError

_OPTIONS = ("path", "sha256", "codec")
# How many of the newest versions are searched for the same file.
_SEARCHED_VERSIONS = 1000


class ModelsArgumentsError(InvalidNameError):
    """The arguments of `mlpipe models` do not name a model."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(
            f"The {len(words)} arguments of `mlpipe models` do not name a model",
            remedy="Give a model, `register` and a model, or nothing",
        )


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that describe the file for `register`."""
    group = command.add_argument_group("register")
    group.add_argument("--path", metavar="KEY", help="the key of the model's file")
    group.add_argument("--sha256", metavar="HEX", help="the file's SHA-256, as sha256sum prints it")
    group.add_argument("--codec", metavar="NAME", help="the file's format, for example xgboost")
    group.add_argument("--bucket", metavar="NAME", help="the file's bucket; by default the data bucket")
    group.add_argument("--reason", default="", help="where the model comes from, for SageMaker's page")
    group.add_argument(
        "--actor", default=getpass.getuser(), help="who registers it; by default your user name"
    )


def register(model: str, options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Register the file of a model that was trained elsewhere; the same file keeps its version."""
    declaration, settings = access.declaration(model), access.settings
    file = _file(options, settings.data_bucket)
    known = next(
        (
            version
            for version in islice(access.registry.model_versions(model), _SEARCHED_VERSIONS)
            if (version.artifact_bucket or settings.data_bucket, version.artifact_key)
            == (file.bucket, file.key)
            and version.artifact_sha256 == file.sha256
        ),
        None,
    )
    if known:
        package_arn = known.package_arn
    else:
        from model_declaration.job_requirements import job_image  # noqa: PLC0415  # pydantic, as `declaration`

        require_file(access.client("s3"), file)
        package_arn = register_file(
            access.client("sagemaker"),
            settings.deployment.model_package_group(model),
            file,
            model=model,
            image=job_image(declaration, PLATFORM).uri(settings.sagemaker_image_repository),
            bucket=settings.data_bucket,
            description=f"{options.actor}: {options.reason}" if options.reason else options.actor,
        )
    version = int(package_arn.rpartition("/")[2])
    document = {
        "model": model,
        "version": version,
        "package_arn": package_arn,
        "is_new": known is None,
        "state": known.state if known else "candidate",
    }
    return CommandResult(
        document=document,
        sections=[Fields(members=document)],
        notes=[] if known else [f"It waits for a person: mlpipe promote {model} {version}"],
    )


def _file(options: argparse.Namespace, data_bucket: str) -> ExternalModelFile:
    if missing := [f"--{name}" for name in _OPTIONS if getattr(options, name) is None]:
        raise RegistrationError(
            f"{', '.join(missing)} of the file is missing", remedy="See `mlpipe models --help`"
        )
    # Validated as in a declaration, so that the messages are the same.
    from pydantic import ValidationError  # noqa: PLC0415  # takes most of a second

    from model_declaration.inputs.origins import ModelFile  # noqa: PLC0415

    try:
        given = ModelFile(
            path=options.path, sha256=options.sha256, codec=options.codec, bucket=options.bucket
        )
    except ValidationError as error:
        faults = "; ".join(f"--{cause['loc'][0]}: {cause['msg']}" for cause in error.errors())
        raise RegistrationError(faults, remedy="Correct it, and register the file again") from error
    return ExternalModelFile(
        bucket=given.bucket or data_bucket, key=given.path, sha256=given.sha256, codec=given.codec
    )
