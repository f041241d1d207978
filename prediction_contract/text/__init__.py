"""Text at the boundaries: JSON without loss, UTC times, text of others."""
