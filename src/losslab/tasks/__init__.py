"""Regression, single-label and multi-label: everything in which tasks differ.

A task offers views of the model's raw scores and forms of the target; a loss says which of each it wants. A task also
evaluates: its metrics are the same whatever the loss. Views, forms and metrics are pure functions that branch on no
value, so that `torch.func.vmap` evaluates many runs in one call, each with buffers of its own.
"""

from losslab.tasks.base import Reading, Task
from losslab.tasks.multi_label import MultiLabel
from losslab.tasks.regression import Regression
from losslab.tasks.single_label import SingleLabel

__all__ = ["MultiLabel", "Reading", "Regression", "SingleLabel", "Task"]
