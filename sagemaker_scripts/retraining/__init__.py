"""Retraining: the plan of an execution, its candidate, and the comparison with the champion."""
