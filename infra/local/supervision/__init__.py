"""The processes of a local stack: started, watched, ended."""
