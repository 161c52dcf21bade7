"""Diagnostics: evaluation episodes, warnings, the bound, and what to say when training diverges."""
