"""Python environments made from lock files, once per user, and the lock files of a project's families."""
