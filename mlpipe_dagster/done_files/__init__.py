"""Done files are found, registered, and each answered with one load."""
