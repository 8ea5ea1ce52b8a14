"""Private parts of Hydra, Lightning, torch and W&B: all that losslab uses of them, and what to do when they change."""
