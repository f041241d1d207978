"""AWS's own limits that the platform keeps to; docs/limits.md says where each is enforced.

AWS counts some megabytes by 1000 and some by 1024. Where its documentation does not say which, the smaller
one stands here.
"""

# DynamoDB: an item with its attribute names, and its partition key.
MOST_ITEM_BYTES = 400 * 1024
MOST_PARTITION_KEY_BYTES = 2048
# A number's significant digits, and its exponent.
MOST_NUMBER_DIGITS = 38
LOWEST_EXPONENT = -130
HIGHEST_EXPONENT = 125
# Levels of lists and maps, the value inside the innermost one being a level too.
MOST_NESTING = 32
# One BatchWriteItem: its puts, and what it sends over the network. 25 items within their limit can exceed the
# latter, because a value takes more bytes in a request than in the table.
MOST_BATCH_WRITES = 25
MOST_BATCH_WRITE_BYTES = 16_000_000
# One BatchGetItem. It answers with at most 16 MB, and names the keys that it did not get to.
MOST_BATCH_READS = 100
