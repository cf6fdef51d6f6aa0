"""Choosing settings by trials on parts of the training part, see :mod:`runs.tuning.tune`."""
