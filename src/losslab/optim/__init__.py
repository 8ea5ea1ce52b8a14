"""Optimizers that torch lacks, schedules, and averages of weights."""
