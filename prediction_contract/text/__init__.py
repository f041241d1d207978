"""Exact JSON and UTC times as text."""
