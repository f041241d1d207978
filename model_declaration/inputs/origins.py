"""Features that are prepared elsewhere, and models that are trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator

from model_declaration.inputs.sources import BucketName, DeclaredSource
from model_declaration.validation import DeclarationPart, fault, inconsistency, matching
from prediction_contract.errors import ContractError
from prediction_contract.jobs.model_inputs import CODECS, TrainedElsewhere
from prediction_contract.naming.s3_layout import validated_key


def _key(value: str) -> str:
    try:
        return validated_key(value)
    except ContractError as error:
        raise fault(str(error)) from error


class DeclaredFeatures(DeclarationPart):
    """Features that are a source's rows, unchanged.

    Attributes:
        source: The name of the source; the field `from`.
        key: The source's column that holds the entity id.
    """

    source: str = Field(alias="from")
    key: str

    def require_in(self, sources: Mapping[str, DeclaredSource]) -> None:
        """Refuse a source that is not declared, and a key that is not one of its columns.

        Raises:
            ValidationError: The source or the key is unknown.
        """
        found = sources.get(self.source)
        if found is None:
            known = ", ".join(sorted(sources)) or "none"
            raise inconsistency(f"{self.source} is not declared; the sources are {known}", "features", "from")
        if found.columns and self.key not in found.columns:
            raise inconsistency(f"{self.key} is not a column of {self.source}", "features", "key")


class ModelFile(DeclarationPart):
    """A model that was trained elsewhere, as one file.

    Attributes:
        path: The file's key in the bucket.
        bucket: The bucket, if it is not the data bucket.
        sha256: The file's SHA-256 in lower-case hex.
        codec: The name of the file's format, for example `xgboost`.
    """

    path: Annotated[str, AfterValidator(_key)]
    bucket: BucketName | None = None
    sha256: Annotated[str, *matching("[0-9a-f]{64}", "it is not a SHA-256 of 64 lower-case hex digits")]
    codec: Annotated[str, *matching("[a-z][a-z0-9_]{0,40}", "it is not the name of a codec, such as xgboost")]

    def require_codec(self, own: Sequence[str]) -> None:
        """Refuse an unknown codec if the project has no codecs of its own.

        Raises:
            ValidationError: The codec is unknown.
        """
        if self.codec not in CODECS and not own:
            raise inconsistency(
                f"codec {self.codec} is unknown: use {', '.join(CODECS)}, or one of `codecs`",
                *("model", "codec"),
            )

    @property
    def as_input(self) -> TrainedElsewhere:
        """The file in the form that jobs read."""
        return TrainedElsewhere(key=self.path, bucket=self.bucket, sha256=self.sha256, codec=self.codec)


class RegisteredModel(DeclarationPart):
    """A model that is trained elsewhere, with registered versions; the champion scores.

    Attributes:
        source: Always `registry`; the field `from`.
    """

    source: Literal["registry"] = Field(alias="from")


def _model(value: object) -> ModelFile | RegisteredModel:
    if isinstance(value, ModelFile | RegisteredModel):
        return value
    is_registered = isinstance(value, Mapping) and "from" in value
    return (RegisteredModel if is_registered else ModelFile).model_validate(value)


DeclaredModel = Annotated[
    ModelFile | RegisteredModel, PlainValidator(_model, json_schema_input_type=ModelFile | RegisteredModel)
]
