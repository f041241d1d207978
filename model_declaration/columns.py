"""The columns of a model's predictions, their cleaning, and what is added to them when served."""

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
    """A column of the model's predictions; the key column names the entity.

    Attributes:
        name: As in the contract.
        type: Of the contract's types.
        nullable: Whether a row may have no value.
        key: Whether it names the entity.
        description: For people.
        derived_from: The columns of the features that it is made of, for the lineage of columns.
        sensitive: Whether Dagster shows none of its values: no sample, no picture, no bound of a bin.
    """

    name: str
    type: ColumnTypeText
    nullable: bool = True
    key: bool = False
    description: str = ""
    derived_from: list[str] = Field(default_factory=list)
    sensitive: bool = False


class DeclaredClamp(DeclarationPart):
    """The bounds of a number: what lies beyond one becomes the bound itself."""

    minimum: LiteralText | None = None
    maximum: LiteralText | None = None


class DeclaredCleaning(DeclarationPart):
    """What becomes of one column before both stores get it, in this order.

    Attributes:
        column: As the model writes it.
        drop: Whether it is left out; nothing else is said of it then.
        trim: Whether a text loses the whitespace at both ends.
        cast: The type it gets; a value that does not fit quarantines its row.
        default: What stands for no value.
        clamp: Bounds of its values.
        rename: What the stores call it.
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
        """The same as the contract's rule."""
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
        name: Under which the answer shows them.
        provider: Whose address the environment gives as `MLPIPE_<PROVIDER>_URL`.
        path: Path and query below that address, with `{column}` placeholders.
        fields: Members of the provider's answer that are shown.
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
        """Refuse a provider that could have no address."""
        try:
            validated_provider_name(self.provider)
        except InvalidNameError as error:
            raise inconsistency(str(error), "provider") from error
        return self

    def of_provider(self, url: str) -> Enrichment:
        """Return the enrichment as the contract has it.

        Args:
            url: The provider's base address, without a slash at the end.

        Raises:
            InvalidServingError: A member has another form.
        """
        return Enrichment(
            name=self.name,
            url=f"{url}{self.path}",
            fields=tuple(self.fields),
            timeout_milliseconds=self.timeout_milliseconds,
            cache_seconds=self.cache_seconds,
            required=self.required,
        )
