"""The local stack as a whole: up, down, status, and what it keeps."""
