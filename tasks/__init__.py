"""Tasks: families with their rewards and priors, and commands for a policy that acts."""
