"""A model with ten columns of six types, corrected by the outcomes of the previous batch."""
