"""From what was typed to a configuration that is checked."""
