"""The CPU backend: kernels compiled by Numba, chunks of samples on worker threads."""
