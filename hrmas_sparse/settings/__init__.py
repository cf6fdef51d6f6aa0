"""The settings of a run: what there are, and how they are read."""
