"""Who may do what: every role and its statements."""
