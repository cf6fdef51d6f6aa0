"""The CPU backend: kernels compiled by Numba, chunks of samples on worker threads."""

LANES = 16      # samples a worker simulates together
# Share of non-zero input above which multiplying everything is faster than visiting events: measured, see
# docs/performance.md. It depends on the data alone, so that results do not depend on timing.
DENSE = 0.3125
