"""Tests of `losslab.record`."""
