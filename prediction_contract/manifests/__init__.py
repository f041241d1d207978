"""The done file and the load's report: what is delivered, and what was loaded."""
