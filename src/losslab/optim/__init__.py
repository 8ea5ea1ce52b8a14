"""Optimizers that torch lacks, groups of parameters, schedules, and averages of weights."""
