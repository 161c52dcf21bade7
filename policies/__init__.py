"""Policies: what acts on top of networks: choosing among actions, by a critic or as they are."""
