"""The policy step: one file per learner."""
