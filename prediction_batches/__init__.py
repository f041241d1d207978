"""A batch as it is written: rows encoded column by column, parts and data files, one commit, the manifest."""
