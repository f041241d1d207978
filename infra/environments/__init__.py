"""Python environments made of lock files, once for each user, and the lock files of a project's families."""
