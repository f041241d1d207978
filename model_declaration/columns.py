"""The columns of a model's predictions, their cleaning, and the enrichments added when served."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from model_declaration.validation import ColumnTypeText, DeclarationPart, inconsistency
from prediction_contract.cleaning.cleaning_rules import literal_text
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.resource_names import validated_provider_name
from prediction_contract.stores.serving_record import Enrichment

_SCALAR = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]})
LiteralText = Annotated[str, BeforeValidator(literal_text), _SCALAR]


class DeclaredColumn(DeclarationPart):
    """A column of the model's predictions.

    Attributes:
        name: The column's name.
        type: One of the contract's types.
        nullable: Whether a row may have no value.
        key: Whether the column holds the entity id.
        description: A description for people.
        derived_from: The feature columns that it is computed from, for column lineage.
        sensitive: Whether Dagster must not show its values: no samples, plots or bin bounds.
    """

    name: str
    type: ColumnTypeText
    nullable: bool = True
    key: bool = False
    description: str = ""
    derived_from: list[str] = Field(default_factory=list)
    sensitive: bool = False


class DeclaredClamp(DeclarationPart):
    """The bounds of a number; values beyond a bound are set to it."""

    minimum: LiteralText | None = None
    maximum: LiteralText | None = None


class DeclaredCleaning(DeclarationPart):
    """How one column is cleaned before it is stored; its rules apply in the order of these attributes.

    Attributes:
        column: The column's name as the model writes it.
        drop: Whether the column is left out; excludes all other rules.
        trim: Whether whitespace is removed from both ends of a text.
        cast: The new type; a row whose value does not fit is quarantined.
        default: The value that replaces null.
        clamp: The bounds of its values.
        rename: The column's name in the stores.
    """

    column: str
    drop: bool = False
    trim: bool = False
    cast: str | None = None
    default: LiteralText | None = None
    clamp: DeclaredClamp | None = None
    rename: str | None = None

    @property
    def rule(self) -> ColumnCleaning:
        """The contract's cleaning rule."""
        clamp = self.clamp or DeclaredClamp()
        return ColumnCleaning(
            column=self.column,
            drop=self.drop,
            trim=self.trim,
            cast=self.cast,
            default=self.default,
            minimum=clamp.minimum,
            maximum=clamp.maximum,
            rename=self.rename,
        )


class DeclaredEnrichment(DeclarationPart):
    """Facts that a provider adds to a prediction when it is served.

    Attributes:
        name: The enrichment's name in answers.
        provider: The provider, whose base URL is the environment variable `MLPIPE_<PROVIDER>_URL`.
        path: The path and query after that URL, with `{column}` placeholders.
        fields: The members of the provider's answer to show.
    """

    name: str
    provider: str
    path: str
    fields: list[str]
    timeout_milliseconds: int = 500
    cache_seconds: int = 300
    required: bool = False

    @model_validator(mode="after")
    def _names_a_provider(self) -> Self:
        """Refuse a provider whose name makes no environment variable."""
        try:
            validated_provider_name(self.provider)
        except InvalidNameError as error:
            raise inconsistency(str(error), "provider") from error
        return self

    def of_provider(self, url: str) -> Enrichment:
        """Return the contract's enrichment.

        Args:
            url: The provider's base URL, without a trailing slash.

        Raises:
            InvalidServingError: A member is malformed.
        """
        return Enrichment(
            name=self.name,
            url=f"{url}{self.path}",
            fields=tuple(self.fields),
            timeout_milliseconds=self.timeout_milliseconds,
            cache_seconds=self.cache_seconds,
            required=self.required,
        )
