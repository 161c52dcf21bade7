"""The policy step: one file per learner, and the update they share."""
