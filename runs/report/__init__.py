"""The report of an experiment: one HTML page with its tables and figures, the figures beside it as PNG and SVG."""
