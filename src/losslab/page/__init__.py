"""Figures: the pictures of a run, the plots of a comparison, and its page."""
