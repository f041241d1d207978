"""Retraining: what one execution works on, its candidate, and how that is judged beside the champion."""
