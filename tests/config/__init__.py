"""Tests of `losslab.config`."""
