"""The emulators of AWS and Snowflake, with limits like those of the real services."""
