"""Decides whether a line of a batch is a row that both stores can hold."""

from __future__ import annotations

from datetime import date
from functools import cached_property, lru_cache
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from prediction_contract.errors import InvalidRowError
from prediction_contract.limits import MAX_ITEM_BYTES, MAX_PARTITION_KEY_BYTES
from prediction_contract.rows.canonical_lines import CanonicalLineReader
from prediction_contract.rows.checksums import row_checksum
from prediction_contract.rows.column_values import decoder_for
from prediction_contract.text.canonical_json import InvalidJsonError, count_values, parse_as_written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedIOBase

    from prediction_contract.rows.column_values import Decoder
    from prediction_contract.rows.schema import PredictionSchema

# No longer line can fit into an item, so it is refused before it takes memory.
LINE_BYTES = 4 * 1024 * 1024
# A longer line makes the whole part invalid. A shorter one is refused alone.
LONGEST_LINE = 16 * LINE_BYTES
CHECKSUM_MEMBER = "row_checksum"
# The values of a line besides its columns: the row, its checksum, and the excess that `count_values` allows.
_OWN_VALUES = 3

# All reasons for quarantine. `duplicate_key` is found only where the whole batch is known.
REASONS = frozenset(
    {
        "unparsable",
        "not_an_object",
        "duplicate_name",
        "unknown_column",
        "missing_key",
        "empty_key",
        "key_too_long",
        "null_not_allowed",
        "wrong_type",
        "not_a_number",
        "number_too_long",
        "out_of_range",
        "empty_name",
        "nul_character",
        "too_deep",
        "value_too_large",
        "checksum_mismatch",
        "duplicate_key",
    }
)

# An item has less than four times the bytes of its canonical JSON, so only a long row must be weighed.
SURELY_SMALL = 64 * 1024
_NUMBER_BYTES = 21
# The bytes of entity_id (name only), batch_id (25-byte value), expires_at and row_checksum (numbers).
_OWN_ATTRIBUTES = len("entity_id") + len("batch_id") + 25 + len("expires_at") + len("row_checksum") + 42
_STORED_CHECKSUM = len("stored_checksum") + _NUMBER_BYTES


class Row:
    """A row that both stores can hold.

    Attributes:
        key: The value of the key column.
        values: The value of each column, in name order: str, int (`long`), Decimal, float (`double`), bool,
            date, UTC datetime, or for `json` nested lists and dicts with Decimal numbers; None for no value.
        texts: The canonical JSON of each column, in the same order; None for no value.
        canonical: The row's canonical JSON in UTF-8, without the columns that have no value.
        checksum: The signed 64-bit checksum of `canonical`. In a cleaned row, the checksum of the row as the
            model wrote it.
        stored_checksum: The checksum of `canonical` in a cleaned row; None if nothing was cleaned.
        pieces: The pieces from `CanonicalLineReader.read`; None if the line was parsed.
    """

    __slots__ = (
        "_contract",
        "_texts",
        "_values",
        "canonical",
        "checksum",
        "key",
        "pieces",
        "stored_checksum",
    )

    def __init__(
        self,
        contract: RowContract,
        key: str,
        canonical: bytes,
        checksum: int,
        *,
        read: tuple[dict[str, Any], list[str | None]] | None = None,
        pieces: list[str | None] | None = None,
    ) -> None:
        self._contract = contract
        self._values, self._texts = (None, None) if read is None else read
        self.key = key
        self.canonical = canonical
        self.checksum = checksum
        self.stored_checksum: int | None = None
        self.pieces = pieces

    def mark_cleaned_from(self, checksum: int) -> Row:
        """Mark this row as the cleaned form of the row with the given checksum, and return it."""
        self.stored_checksum, self.checksum = self.checksum, checksum
        return self

    @property
    def values(self) -> dict[str, Any]:
        """See the class."""
        if self._values is None:
            self._read()
        assert self._values is not None  # noqa: S101  # for type checkers
        return self._values

    @property
    def texts(self) -> list[str | None]:
        """See the class."""
        if self._texts is None:
            self._read()
        assert self._texts is not None  # noqa: S101  # for type checkers
        return self._texts

    def _read(self) -> None:
        self._values, self._texts = self._contract.values_and_texts(self.canonical)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Row)
            and self._contract.column_names == other._contract.column_names
            and self.canonical == other.canonical
        )

    def __hash__(self) -> int:
        return self.checksum

    def __repr__(self) -> str:
        return f"Row({self.canonical.decode()})"


class RowContract:
    """Accepts or refuses lines of one schema. It is costly to create, so reuse it (`row_contract`).

    Args:
        schema: The schema.
        is_cleaned: Whether the rows are cleaned. Items of cleaned rows have one more attribute.

    Attributes:
        schema: The schema.
        column_names: The names of all columns, in the order of a row's values and texts.
    """

    def __init__(self, schema: PredictionSchema, *, is_cleaned: bool = False) -> None:
        self.schema = schema
        self._own_bytes = _OWN_ATTRIBUTES + (_STORED_CHECKSUM if is_cleaned else 0)
        self._columns: list[tuple[str, str, Decoder, bool]] = [
            (column.name, f"{encode_basestring(column.name)}:", decoder_for(column), column.nullable)
            for column in sorted(schema.columns, key=lambda column: column.name)
        ]
        self._names = frozenset(schema.names)
        self.column_names = [name for name, *_ in self._columns]

    @cached_property
    def _canonical_lines(self) -> CanonicalLineReader:
        """The reader of canonical lines, created on first use because readers of items do not need it."""
        return CanonicalLineReader(self.schema)

    def accept(self, line: bytes) -> Row:
        """Return the row of one JSON line, with or without its line ending.

        If the line has a `row_checksum`, it must be correct.

        Raises:
            InvalidRowError: The line is not a row of this schema that both stores can hold. The error's
                `reason` is one of `REASONS`.
        """
        canonical_line = self._canonical_lines.read(line)
        if canonical_line is not None:
            key, pieces, text, stated = canonical_line
            canonical = text.encode()
            checksum = row_checksum(canonical)
            if stated is None or int(stated) == checksum:
                return Row(self, key, canonical, checksum, pieces=pieces)
        return self._parsed(line)

    def refuse_costly(self, line: bytes) -> None:
        """Refuse a line that is too large to parse, by its bytes or its number of values.

        Raises:
            InvalidRowError: The line is larger than any row of this schema.
        """
        if len(line) > LINE_BYTES:
            raise InvalidRowError("value_too_large", f"The line has {len(line)} bytes")
        # The cost of parsing depends on the values. Each takes at least one byte of an item, except nulls.
        if len(line) > MAX_ITEM_BYTES:
            values = count_values(line)
            if values > MAX_ITEM_BYTES + len(self._columns) + _OWN_VALUES:
                raise InvalidRowError("value_too_large", f"The line has up to {values} values")

    def _parsed(self, line: bytes) -> Row:
        self.refuse_costly(line)
        try:
            members = parse_as_written(line)
        except InvalidJsonError as error:
            raise InvalidRowError(error.reason, error.what) from error
        if type(members) is not dict:
            raise InvalidRowError("not_an_object", "The line is JSON but not an object")
        stated = members.pop(CHECKSUM_MEMBER, None)
        row = self.accept_members(members)
        if stated is not None and stated != row.checksum:
            raise InvalidRowError("checksum_mismatch", "The row's values do not have the checksum it states")
        return row

    def accept_members(self, members: Mapping[str, Any]) -> Row:
        """Return the row of members parsed by `canonical_json.parse_as_written`.

        Raises:
            InvalidRowError: As in `accept`.
        """
        key = self._checked_key(members)
        values, texts, encoded = self._decoded(members)
        if len(encoded) > SURELY_SMALL:
            _check_weight(values, self.schema.key, self._own_bytes)
        return Row(self, key, encoded, row_checksum(encoded), read=(values, texts))

    def values_and_texts(self, canonical: bytes) -> tuple[dict[str, Any], list[str | None]]:
        """Return the values and the texts of an accepted row's canonical JSON."""
        values, texts, _ = self._decoded(parse_as_written(canonical))
        return values, texts

    def _decoded(self, members: Mapping[str, Any]) -> tuple[dict[str, Any], list[str | None], bytes]:
        """Return the values, the texts and the canonical JSON of a row's members."""
        values: dict[str, Any] = {}
        texts: list[str | None] = []
        canonical: list[str] = []
        unseen = len(members)
        for name, prefix, decode, nullable in self._columns:
            raw = members.get(name)
            if raw is None:
                if not nullable:
                    raise InvalidRowError("null_not_allowed", f"{name} has no value", column=name)
                values[name] = None
                texts.append(None)
                unseen -= name in members
                continue
            value, text = decode(raw)
            values[name] = value
            texts.append(text)
            canonical.append(prefix + text)
            unseen -= 1
        if unseen:
            self._refuse_unknown(members)
        try:
            encoded = f"{{{','.join(canonical)}}}".encode()
        except UnicodeEncodeError as error:
            raise InvalidRowError("unparsable", "A string holds a lone surrogate") from error
        return values, texts, encoded

    def _checked_key(self, members: Mapping[str, Any]) -> str:
        name = self.schema.key
        key = members.get(name)
        if key is None:
            raise InvalidRowError("missing_key", f"The row has no {name}", column=name)
        if key == "":
            raise InvalidRowError("empty_key", f"{name} is empty", column=name)
        # A character has at most four bytes, so short keys need not be encoded.
        if type(key) is str and len(key) * 4 > MAX_PARTITION_KEY_BYTES:
            length = len(key.encode(errors="surrogatepass"))
            if length > MAX_PARTITION_KEY_BYTES:
                raise InvalidRowError(
                    "key_too_long",
                    f"{name} has {length} bytes; at most {MAX_PARTITION_KEY_BYTES} are allowed",
                    column=name,
                )
        return key

    def _refuse_unknown(self, members: Mapping[str, Any]) -> None:
        unknown = ascii(min(members.keys() - self._names)[:80])
        raise InvalidRowError("unknown_column", f"The schema has no column {unknown}", column=unknown)


@lru_cache(maxsize=64)
def row_contract(schema: PredictionSchema, *, is_cleaned: bool = False) -> RowContract:
    """Return the cached contract of a schema."""
    return RowContract(schema, is_cleaned=is_cleaned)


def read_lines(file: BufferedIOBase) -> Iterator[bytes]:
    """Yield a part's lines with their endings.

    A line longer than `LINE_BYTES` is cut, but stays long enough to be refused. Reading stops after a line
    longer than `LONGEST_LINE`; the load then refuses the part.
    """
    while line := file.readline(LINE_BYTES + 1):
        yield line
        size, rest = len(line), line
        while len(rest) >= LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(LINE_BYTES)
            size += len(rest)
            if size > LONGEST_LINE:
                return


def _check_weight(values: dict[str, Any], key: str, own_bytes: int) -> None:
    weight = own_bytes + _weight(values[key])
    for name, value in values.items():
        if value is not None and name != key:
            weight += len(name) + _weight(value)
    if weight > MAX_ITEM_BYTES:
        raise InvalidRowError(
            "value_too_large",
            f"The row has {weight} bytes as an item; at most {MAX_ITEM_BYTES} are allowed",
        )


def _weight(value: Any) -> int:
    """Return the bytes that DynamoDB counts for a value. Numbers are rounded up."""
    if isinstance(value, str):
        return len(value.encode())
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, list):
        return 3 + sum(1 + _weight(element) for element in value)
    if isinstance(value, dict):
        return 3 + sum(1 + len(name.encode()) + _weight(member) for name, member in value.items())
    if isinstance(value, date):
        return 27
    return min(_NUMBER_BYTES, len(str(value)) // 2 + 2)
