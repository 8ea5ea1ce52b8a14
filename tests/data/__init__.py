"""Tests of the datasets and their batches."""
