"""Benchmarks: this engine next to other ways to train the same networks. See docs/performance.md."""
