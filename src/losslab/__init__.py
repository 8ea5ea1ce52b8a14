"""losslab: which loss and which optimizer are better for my task, and is the difference real?"""

__version__ = "0.1.0"
