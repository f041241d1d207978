"""The accuracy of published batches, by metric and slice."""
