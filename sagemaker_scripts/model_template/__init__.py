"""What a model predicts, in one line."""
