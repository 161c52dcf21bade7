"""Checkpoints: written whole, read without pickle, resumed bit for bit."""
