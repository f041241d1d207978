"""Which line is a row that both stores can hold, and how a row is written."""
