"""Datasets: arrays, their split and their facts; and the batches of a run."""
