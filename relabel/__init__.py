"""The data step: choose, weight, filter or relabel experience before a policy is fitted to it."""
