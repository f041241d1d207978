"""The code location."""

from mlpipe_dagster.definitions import definitions

defs = definitions(__file__)
