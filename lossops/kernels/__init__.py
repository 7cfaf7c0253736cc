"""Compiled loops. NumPy and Numba only; knows nothing of files, tables or configuration."""
