"""Logs: one packed log, its frames, its folder on disk, and the readers of other formats."""
