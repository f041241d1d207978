"""The asset checks of one model."""
