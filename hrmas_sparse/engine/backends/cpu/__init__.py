"""The CPU backend: kernels compiled by Numba, chunks of samples on worker threads."""

LANES = 16      # samples of a chunk: as many numbers of float32 as a register of AVX-512 has room for
# Share of non-zero input above which multiplying everything is faster than visiting events: measured, see
# docs/performance.md. It depends on the data alone, so that results do not depend on timing.
DENSE = 0.3125
