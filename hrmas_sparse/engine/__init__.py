"""The network: neurons, recurrence, passes forward and backward, and the backends that simulate them."""
