"""Tests of `losslab.stacking`."""
