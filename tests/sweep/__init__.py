"""Tests of `losslab.sweep`."""
