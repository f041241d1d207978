"""Accuracy of published batches, measured once outcomes are known and compared with the model's promise."""
