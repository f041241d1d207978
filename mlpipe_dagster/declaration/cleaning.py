"""What becomes of the columns on their way into the stores."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from mlpipe_dagster.declaration.values import DeclaredModel
from prediction_contract.cleaning.cleaning_rules import literal_text
from prediction_contract.cleaning.column_cleaning import ColumnCleaning

_SCALAR = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]})
Literal = Annotated[str, BeforeValidator(literal_text), _SCALAR]


class DeclaredClamp(DeclaredModel):
    """The bounds of a number: what lies beyond one becomes the bound itself."""

    minimum: Literal | None = None
    maximum: Literal | None = None


class DeclaredCleaning(DeclaredModel):
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
    default: Literal | None = None
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
