"""Tests of `losslab.optim`."""
