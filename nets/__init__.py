"""Networks: encoders, heads, distributions and action units."""
