"""A batch divided into shares, which processes of one or several hosts work on."""
