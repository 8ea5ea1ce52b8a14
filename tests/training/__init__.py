"""Tests of `losslab.training`."""
