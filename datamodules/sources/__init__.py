"""Sources: where new episodes come from."""
