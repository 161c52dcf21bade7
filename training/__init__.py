"""Training: the contract of a learner, its update, its checkpoints and its sweeps of the log."""
