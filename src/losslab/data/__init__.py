"""Datasets: arrays, their split and their facts; and the batches cut from them."""
