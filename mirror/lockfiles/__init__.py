"""Readers of requirements files and locks."""
