"""Limits of AWS and Snowflake that the platform respects. docs/limits.md says where each is enforced.

A megabyte is 1000² bytes in some AWS limits and 1024² bytes in others. Where the AWS documentation does not
say which, the smaller value is used here.
"""

# DynamoDB: the size of an item, attribute names included, and of its partition key.
MAX_ITEM_BYTES = 400 * 1024
MAX_PARTITION_KEY_BYTES = 2048
# DynamoDB: the significant digits of a number, and its exponent.
MAX_NUMBER_DIGITS = 38
LOWEST_EXPONENT = -130
HIGHEST_EXPONENT = 125
# The same range as doubles: the smallest magnitude above zero, and the first one that is too large.
SMALLEST_DOUBLE = float(f"1e{LOWEST_EXPONENT}")
DOUBLE_BEYOND_LARGEST = float(f"1e{HIGHEST_EXPONENT + 1}")
# DynamoDB: the UTF-8 bytes of a name inside a map.
MAX_NAME_BYTES = 65_535
# DynamoDB: nested levels of lists and maps. The innermost value counts as a level.
MAX_NESTING = 32
# BatchWriteItem: the puts of one request, and its bytes. 25 items of a permitted size can exceed the bytes,
# because a value takes more bytes in a request than in the table.
MAX_BATCH_WRITES = 25
MAX_BATCH_WRITE_BYTES = 16_000_000
# BatchGetItem: the keys of one request, and the bytes of its response. The response lists unprocessed keys.
MAX_BATCH_READS = 100
MAX_BATCH_READ_BYTES = 16_000_000

# S3: the UTF-8 bytes of a key, the length of a bucket name, and the keys of one DeleteObjects request.
MAX_OBJECT_KEY_BYTES = 1024
MAX_BUCKET_NAME_CHARACTERS = 63
MAX_DELETED_OBJECTS = 1000

# SQS: the messages of one receive request or one batch.
MAX_QUEUE_MESSAGES = 10

# Glue: the bytes of all arguments of a job run, names and values.
MAX_GLUE_ARGUMENT_BYTES = 260_000

# SageMaker: a job's name, its container's arguments and its environment. These are the limits of a processing
# job; a training job may have environment values of 512 characters.
MAX_JOB_NAME_CHARACTERS = 63
MAX_CONTAINER_ARGUMENTS = 100
MAX_CONTAINER_ARGUMENT_CHARACTERS = 256
MAX_ENVIRONMENT_VARIABLES = 100
MAX_ENVIRONMENT_VALUE_CHARACTERS = 256
# SageMaker: the message that a container leaves on exit, and the failure reason of a job.
MAX_EXIT_MESSAGE_CHARACTERS = 1024

# Lambda: the bytes of all environment variables of a function, names and values.
MAX_FUNCTION_ENVIRONMENT_BYTES = 4096

# Load balancer: the values that a rule may list for one claim of a token.
MAX_CLAIM_VALUES = 10
# Load balancer in front of a Lambda function: the request body, and the function's response as JSON.
MAX_FUNCTION_REQUEST_BYTES = 1_000_000
MAX_FUNCTION_ANSWER_BYTES = 1_000_000

# Snowflake: the bytes of one statement.
MAX_STATEMENT_BYTES = 1_000_000
# Snowflake: the name of a table, a column or a stage.
MAX_IDENTIFIER_CHARACTERS = 255
# Snowflake: the values of one IN list.
MAX_LIST_VALUES = 16_384
# Snowflake: the files named in one COPY.
MAX_COPY_FILES = 1000
MAX_QUERY_TAG_CHARACTERS = 2000
# Snowflake: the digits of a NUMBER.
MAX_DECIMAL_DIGITS = 38
# Snowflake: days of Time Travel in the Standard edition, and in the Enterprise edition and above.
MAX_STANDARD_TIME_TRAVEL_DAYS = 1
MAX_TIME_TRAVEL_DAYS = 90
# Snowflake: no column can have one of these ANSI names, even quoted. Other keywords work when quoted.
FORBIDDEN_COLUMNS = frozenset(
    {"current_date", "current_time", "current_timestamp", "current_user", "localtime", "localtimestamp"}
)
