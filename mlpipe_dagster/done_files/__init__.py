"""Done files are noticed, registered, and answered with one load each."""
