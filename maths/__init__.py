"""The equations: pure functions on tensors, nothing else (this package imports torch only).

Letters used in every docstring of this package: B rows of one batch, K updates of one chunk, T
time steps, A action dimensions, O observation dimensions, Z task dimensions, N tasks (or rows of a
whole log where a function takes one). Log-probabilities are in nats, time is in steps.
"""
