"""Datasets: where files are, how they are read, how columns become arrays and how rows find their partner."""
