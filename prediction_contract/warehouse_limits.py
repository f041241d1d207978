"""Snowflake's own limits that the platform keeps to; docs/limits.md says where each is enforced."""

# Of one statement's text.
MOST_STATEMENT_BYTES = 1_000_000
# Of any name: of a table, a column, a stage.
MOST_IDENTIFIER_CHARACTERS = 255
# Values in the list of an IN.
MOST_LIST_VALUES = 16_384
# Files that one COPY names.
MOST_COPY_FILES = 1000
MOST_QUERY_TAG_CHARACTERS = 2000
# Digits of a NUMBER.
MOST_DIGITS = 38
# Days of Time Travel: of the Standard edition, and of Enterprise and higher ones.
MOST_STANDARD_RETENTION_DAYS = 1
MOST_RETENTION_DAYS = 90
# Reserved by ANSI: no column can have such a name, quoted or not. All other keywords work when quoted.
FORBIDDEN_COLUMNS = frozenset(
    {"current_date", "current_time", "current_timestamp", "current_user", "localtime", "localtimestamp"}
)
