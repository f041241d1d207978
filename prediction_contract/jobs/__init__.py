"""What jobs are started with: arguments, schedules, code, tolerances."""
