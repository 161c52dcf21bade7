"""Tasks: families with their rewards and priors, and what a policy is asked for while it acts."""
