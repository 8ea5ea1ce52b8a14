"""Studies: published claims, repeated by one command."""
