"""What ``benchmarks/gpu.py`` measures: each part is a function that yields the rows of its table."""
