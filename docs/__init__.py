"""The documentation: its pages, and what writes those of them that follow from the catalogue."""
