"""The search for an architecture: HRMAS, its optimisers, baselines and diagnosis."""
