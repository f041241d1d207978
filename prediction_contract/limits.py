"""Limits of AWS and Snowflake that the platform keeps to; docs/limits.md says where each is enforced.

AWS counts some megabytes by 1000 and some by 1024. Where its documentation does not say which, the smaller
one stands here.
"""

# DynamoDB: an item with its attribute names, and its partition key.
MAX_ITEM_BYTES = 400 * 1024
MAX_PARTITION_KEY_BYTES = 2048
# A number's significant digits, and its exponent.
MAX_NUMBER_DIGITS = 38
LOWEST_EXPONENT = -130
HIGHEST_EXPONENT = 125
# The same as doubles: the smallest magnitude besides zero, and the first one beyond the largest.
SMALLEST_DOUBLE = float(f"1e{LOWEST_EXPONENT}")
DOUBLE_BEYOND_LARGEST = float(f"1e{HIGHEST_EXPONENT + 1}")
# A name inside a map, in UTF-8.
MAX_NAME_BYTES = 65_535
# Levels of lists and maps, the value inside the innermost one being a level too.
MAX_NESTING = 32
# One BatchWriteItem: its puts, and what it sends over the network. 25 items within their limit can exceed the
# latter, because a value takes more bytes in a request than in the table.
MAX_BATCH_WRITES = 25
MAX_BATCH_WRITE_BYTES = 16_000_000
# One BatchGetItem: its keys, and what it answers with; it names the keys that it did not get to.
MAX_BATCH_READS = 100
MAX_BATCH_READ_BYTES = 16_000_000

# S3: a key in UTF-8, a bucket's name, and the keys of one DeleteObjects.
MAX_OBJECT_KEY_BYTES = 1024
MAX_BUCKET_NAME_CHARACTERS = 63
MAX_DELETED_OBJECTS = 1000

# SQS: the messages of one receive and of one batch.
MAX_QUEUE_MESSAGES = 10

# Glue: all arguments of a job run, names and values.
MAX_GLUE_ARGUMENT_BYTES = 260_000

# SageMaker: a job's name, its container's arguments, and its environment. A training job's value may have 512
# characters, a processing job's only these.
MAX_JOB_NAME_CHARACTERS = 63
MAX_CONTAINER_ARGUMENTS = 100
MAX_CONTAINER_ARGUMENT_CHARACTERS = 256
MAX_ENVIRONMENT_VARIABLES = 100
MAX_ENVIRONMENT_VALUE_CHARACTERS = 256
# What a container may leave of itself, and why SageMaker says that a job failed.
MAX_EXIT_MESSAGE_CHARACTERS = 1024

# Lambda: all environment variables of a function, names and values.
MAX_FUNCTION_ENVIRONMENT_BYTES = 4096

# The load balancer: the values that a rule takes of one claim of a token.
MAX_CLAIM_VALUES = 10
# The load balancer before a function: a request's body, and the function's answer as JSON.
MAX_FUNCTION_REQUEST_BYTES = 1_000_000
MAX_FUNCTION_ANSWER_BYTES = 1_000_000

# Snowflake: the text of one statement.
MAX_STATEMENT_BYTES = 1_000_000
# A name of a table, a column or a stage.
MAX_IDENTIFIER_CHARACTERS = 255
# The values in the list of an IN.
MAX_LIST_VALUES = 16_384
# The files that one COPY names.
MAX_COPY_FILES = 1000
MAX_QUERY_TAG_CHARACTERS = 2000
# The digits of a NUMBER.
MAX_DECIMAL_DIGITS = 38
# Days of Time Travel: in the Standard edition, and in Enterprise and higher ones.
MAX_STANDARD_TIME_TRAVEL_DAYS = 1
MAX_TIME_TRAVEL_DAYS = 90
# Reserved by ANSI: no column can have such a name, quoted or not. All other keywords work when quoted.
FORBIDDEN_COLUMNS = frozenset(
    {"current_date", "current_time", "current_timestamp", "current_user", "localtime", "localtimestamp"}
)
