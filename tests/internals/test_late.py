"""A run imports what it uses, and what it does not use is whole when somebody does."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import sys
from losslab.cli import train

unused = {"torchvision", "torch._inductor.utils", "torch._dynamo.utils", "torch.distributed.fsdp", "scipy", "sympy"}
unused |= {"torchmetrics.functional", "sklearn", "wandb.sdk.launch", "wandb.apis.public", "pytorch_optimizer", "optuna"}

def check(*more):
    if found := sorted(unused.union(more) & set(sys.modules)):
        sys.exit(", ".join(found))

import losslab.predict
import losslab.training.module
check("matplotlib", "pandas")
sys.argv = ["losslab", "trainer.max_epochs=1", "task=single_label", "logger=false"]
train()
check("pandas")  # W&B imports it where it is installed
sys.argv[2:] = ["data=diabetes"]
train()
check()
"""

LATER = """
import losslab
import pytorch_lightning as pl
import sys
import torch
from lightning_fabric.wrappers import OptimizedModule

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.Adam(model.parameters())
assert "torch._dynamo.utils" not in sys.modules and not isinstance(model, OptimizedModule)
kept_out = torch.compiler.disable(lambda x: torch.compiler.is_compiling())
import torch._dynamo.utils
assert torch._dynamo.utils is sys.modules["torch._dynamo.utils"] and torch._dynamo.utils.__spec__.loader.path
assert torch._dynamo.disable.__module__ == "torch._dynamo.decorators"
compiled = torch.compile(model, backend="eager")
assert isinstance(compiled, OptimizedModule) and not isinstance(model, OptimizedModule)

@torch.compile(backend="eager")
def step(x):
    optimizer.zero_grad()
    compiled(x).sum().backward()
    optimizer.step()
    return kept_out(x), torch.compiler.is_compiling()

assert step(torch.ones(3, 2)) == (False, True)

import torchmetrics
metric = torchmetrics.MetricCollection({"a": torchmetrics.Accuracy(task="binary")})
metric.update(torch.tensor([1, 0]), torch.tensor([1, 1]))
assert metric.compute()["a"] == 0.5 and isinstance(metric["a"], torchmetrics.Metric)
metric["a"].plot()
assert torchmetrics.utilities.plot._AX_TYPE is sys.modules["matplotlib.axes"].Axes
from torchmetrics.detection import MeanAveragePrecision
assert torchmetrics.detection.MeanAveragePrecision is MeanAveragePrecision
try:
    torchmetrics.nothing
except AttributeError as error:
    print(error)
"""


def run(program: str, folder: Path) -> str:
    """Return what a program prints in a fresh process, which must end without an error."""
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_imports_only_what_it_uses(tmp_path: Path) -> None:
    run(RUN, tmp_path)


@pytest.mark.system
def test_a_late_package_is_whole_when_it_is_used(tmp_path: Path) -> None:
    assert run(LATER, tmp_path) == "module 'torchmetrics' has no attribute 'nothing'\n"
