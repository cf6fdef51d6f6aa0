"""What the engine is measured against. Each module runs in the bench environment, `.venv-bench`, with PyTorch or JAX.

A peer is a function ``make(problem, threads, dtype, compiled)`` that returns an object with ``step()``, one
training step without optimiser; those of the same learning rule have ``gradients()``, too, and take a ``device``,
"cpu" or "cuda".
"""
