"""Ten columns of six types, corrected by what became of the previous batch."""
