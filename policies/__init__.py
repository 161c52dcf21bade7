"""Policies: how networks act: choosing among actions, by a critic or by probability."""
