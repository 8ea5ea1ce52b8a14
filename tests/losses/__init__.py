"""Tests of `losslab.losses`."""
