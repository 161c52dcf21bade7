"""Environments: the one evaluator (``rollout``) and its statistics. Nothing here imports torch."""
