"""Refuses statements that Snowflake refuses but DuckDB accepts, and emulates account objects DuckDB lacks.

The Snowflake server passes each statement to `SnowflakeAccount.translate` before it runs it. The emulated
account has the Standard edition, and its buckets are private.
"""

from __future__ import annotations

import re

from snowflake.connector.errors import ProgrammingError

from prediction_contract.limits import (
    FORBIDDEN_COLUMNS,
    MAX_COPY_FILES,
    MAX_IDENTIFIER_CHARACTERS,
    MAX_LIST_VALUES,
    MAX_QUERY_TAG_CHARACTERS,
    MAX_STANDARD_TIME_TRAVEL_DAYS,
    MAX_STATEMENT_BYTES,
)

TEXT_LITERAL = re.compile(r"('(?:[^'\\]|\\.|'')*')", re.DOTALL)
_DONE = "SELECT 'Statement executed successfully.' AS \"status\""
# All of Parquet's format options that COPY accepts.
_PARQUET_OPTIONS = frozenset(
    {
        "TYPE",
        "COMPRESSION",
        "SNAPPY_COMPRESSION",
        "BINARY_AS_TEXT",
        "USE_LOGICAL_TYPE",
        "TRIM_SPACE",
        "USE_VECTORIZED_SCANNER",
        "REPLACE_INVALID_CHARACTERS",
        "NULL_IF",
    }
)
_VECTORIZED_ON_ERROR = frozenset({"ABORT_STATEMENT", "SKIP_FILE"})


def _pattern(words: str) -> re.Pattern[str]:
    """Return a case-insensitive pattern in which a blank matches any whitespace."""
    return re.compile(words.replace(" ", r"\s+"), re.IGNORECASE | re.DOTALL)


# Roles, users, virtual warehouses, shares and rights have no effect here.
_WITHOUT_EFFECT = _pattern(r"(CREATE (ROLE|USER|WAREHOUSE|SHARE)|GRANT|ALTER DATABASE \w+ SET) ")
_INTEGRATION = _pattern(r"CREATE (OR REPLACE )?STORAGE INTEGRATION (IF NOT EXISTS )?(\w+) ")
_DESCRIBED_INTEGRATION = _pattern(r"DESC(?:RIBE)? (?:STORAGE )?INTEGRATION (\w+)\s*$")
_USED_INTEGRATION = _pattern(r"(?:STORAGE_INTEGRATION\s*=\s*|GRANT USAGE ON INTEGRATION )(\w+)")
_ALLOWED_LOCATIONS = _pattern(r"STORAGE_ALLOWED_LOCATIONS\s*=\s*\(([^)]*)\)")
_STAGE = _pattern(r"(CREATE|ALTER) (OR REPLACE )?((TEMP|TEMPORARY) )?STAGE ")
_STAGE_URL = _pattern(r"\bURL\s*=\s*'(s3://[^']*)'")
_MANAGED_SCHEMA = _pattern(r"^(CREATE [\w ]*\bSCHEMA .*) WITH MANAGED ACCESS")
_RETENTION = _pattern(r"\bDATA_RETENTION_TIME_IN_DAYS\s*=\s*(\d+)")
_QUERY_TAG = _pattern(r"ALTER SESSION SET .*\bQUERY_TAG\s*=\s*'([^']*)'")
_TABLE = _pattern(r'(CREATE [\w ]*\bTABLE (IF NOT EXISTS )?[\w".]+\s*\(|ALTER TABLE )')
_COLUMN = _pattern(r'(?:[(,]\s*|\bADD COLUMN (?:IF NOT EXISTS )?)"?(\w+)"? [A-Z]')
_IDENTIFIER = re.compile(r'"([^"]+)"|\b(\w+)\b')
_IN_LIST = _pattern(r"\bIN\s*\(([^()]*)\)")
_COPY = _pattern(r"COPY INTO ")
_FILES = _pattern(r"\bFILES\s*=\s*\(([^)]*)\)")
_FILE_FORMAT = _pattern(r"\bFILE_FORMAT\s*=\s*\(((?:[^()]|\([^()]*\))*)\)")
_OPTION = _pattern(r"(\w+)\s*=\s*'?(\w*)")
_ON_ERROR = _pattern(r"\bON_ERROR\s*=\s*'?(\w+%?)")


class SnowflakeAccount:
    """An account: its storage integrations, and the statements that it refuses."""

    def __init__(self) -> None:
        self._allowed: dict[str, tuple[str, ...]] = {}

    def translate(self, statement: str) -> str:
        """Return the statement for DuckDB to run instead of the given one.

        Raises:
            ProgrammingError: Snowflake refuses the statement.
        """
        statement = statement.lstrip()
        outside_texts = TEXT_LITERAL.sub("''", statement)
        _check_sizes(statement, outside_texts)
        if _TABLE.match(statement):
            _check_columns(outside_texts)
        if _COPY.match(statement):
            _check_copy(statement, outside_texts)
        for found in _RETENTION.finditer(outside_texts):
            if int(found[1]) > MAX_STANDARD_TIME_TRAVEL_DAYS:
                raise _refusal(
                    f"invalid value [{found[1]}] for parameter 'DATA_RETENTION_TIME_IN_DAYS'", 1008, "22023"
                )
        if _STAGE.match(statement):
            self._check_stage(statement, outside_texts)
        elif found := _USED_INTEGRATION.match(statement):
            self._locations(found[1])
        return self._answered(statement)

    def _answered(self, statement: str) -> str:
        """Return the statement, or a substitute if it is about objects that DuckDB lacks."""
        if found := _INTEGRATION.match(statement):
            name = found[3].upper()
            if found[1] or name not in self._allowed:
                locations = _ALLOWED_LOCATIONS.search(statement)
                texts = TEXT_LITERAL.findall(locations[1]) if locations else []
                self._allowed[name] = tuple(text.strip("'") for text in texts)
            return _DONE
        if found := _DESCRIBED_INTEGRATION.match(statement):
            locations = ",".join(self._locations(found[1]))
            return (
                "SELECT 'STORAGE_ALLOWED_LOCATIONS' AS \"property\", 'List' AS \"property_type\", "
                f"'{locations}' AS \"property_value\""
            )
        if _WITHOUT_EFFECT.match(statement):
            return _DONE
        return _MANAGED_SCHEMA.sub(r"\1", statement)

    def _locations(self, integration: str) -> tuple[str, ...]:
        try:
            return self._allowed[integration.upper()]
        except KeyError as error:
            what = f"Integration '{integration.upper()}' does not exist or not authorized."
            raise _refusal(what, 2003, "02000") from error

    def _check_stage(self, statement: str, outside_texts: str) -> None:
        url = _STAGE_URL.search(statement)
        if url is None:
            return
        integration = _USED_INTEGRATION.search(outside_texts)
        if integration is None:
            if "CREDENTIALS" not in outside_texts.upper():
                # Snowflake would create such a stage, but it could only read public buckets.
                raise _refusal("The stage has neither STORAGE_INTEGRATION nor CREDENTIALS", 3127, "42601")
        elif not url[1].startswith(self._locations(integration[1])):
            raise _refusal(
                f"Location '{url[1]}' is not allowed by integration {integration[1].upper()}. "
                "Please use DESC INTEGRATION to check out allowed and blocked locations.",
                3127,
                "42601",
            )


def _check_sizes(statement: str, outside_texts: str) -> None:
    if len(statement.encode()) > MAX_STATEMENT_BYTES:
        raise _refusal(f"Query text exceeds {MAX_STATEMENT_BYTES} bytes")
    for found in _IN_LIST.finditer(outside_texts):
        if (values := found[1].count(",") + 1) > MAX_LIST_VALUES:
            raise _refusal(
                "maximum number of expressions in a list exceeded, expected at most "
                f"{MAX_LIST_VALUES:,}, got {values:,}",
                1795,
                "42601",
            )
    for quoted, bare in _IDENTIFIER.findall(outside_texts):
        name = quoted or bare
        if len(name) > MAX_IDENTIFIER_CHARACTERS:
            raise _refusal(f"Object name '{name}' exceeds {MAX_IDENTIFIER_CHARACTERS} characters")
    if (tag := _QUERY_TAG.match(statement)) and len(tag[1]) > MAX_QUERY_TAG_CHARACTERS:
        raise _refusal("invalid value for parameter 'QUERY_TAG'", 1008, "22023")


def _check_columns(outside_texts: str) -> None:
    for name in _COLUMN.findall(outside_texts):
        if name.lower() in FORBIDDEN_COLUMNS:
            raise _refusal(f"invalid column definition name '{name.upper()}' (ANSI reserved)")


def _check_copy(statement: str, outside_texts: str) -> None:
    files = _FILES.search(outside_texts)
    if files and files[1].count(",") + 1 > MAX_COPY_FILES:
        raise _refusal(f"the number of files exceeds {MAX_COPY_FILES}")
    file_format = _FILE_FORMAT.search(outside_texts)
    options = {
        name.upper(): value.upper() for name, value in _OPTION.findall(file_format[1] if file_format else "")
    }
    if options.get("TYPE") == "PARQUET" and (unknown := sorted(options.keys() - _PARQUET_OPTIONS)):
        raise _refusal(f"invalid parameter '{unknown[0]}'", 1420, "22023")
    on_error = _ON_ERROR.search(statement)
    if (
        options.get("USE_VECTORIZED_SCANNER") == "TRUE"
        and on_error
        and on_error[1].upper() not in _VECTORIZED_ON_ERROR
    ):
        raise _refusal(f"USE_VECTORIZED_SCANNER does not go with ON_ERROR = {on_error[1].upper()}")


def _refusal(what: str, number: int = 1003, state: str = "42000") -> ProgrammingError:
    return ProgrammingError(msg=f"SQL compilation error:\n{what}", errno=number, sqlstate=state)
