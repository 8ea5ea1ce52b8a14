"""Tests of `losslab.page`."""
