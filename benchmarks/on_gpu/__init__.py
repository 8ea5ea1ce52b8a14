"""The parts of `benchmarks/gpu.py`: what is checked on a GPU, one file for each."""
