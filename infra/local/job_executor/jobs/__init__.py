"""Any job: its record, its processes, its output."""
