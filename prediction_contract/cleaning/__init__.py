"""What becomes of a row between the files and the stores."""
