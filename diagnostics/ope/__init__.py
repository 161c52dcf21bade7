"""What a policy is worth, judged by a log, without an environment."""
