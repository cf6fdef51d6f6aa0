"""Networks for other programs: NIR, a plain NumPy archive, C for microcontrollers; see docs/howto/export.md."""
