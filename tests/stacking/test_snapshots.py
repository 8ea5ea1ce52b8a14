"""What a stack keeps of each run: the weights, the optimizer's state and the numbers of one and the same epoch."""

import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pytorch_lightning import LightningModule, Trainer

from losslab.stacking.callbacks import StackCallbacks
from losslab.stacking.group import plan_runs, split_stacks
from losslab.stacking.train import train_together
from losslab.train import train
from tests.conftest import Typed, folder_of
from tests.stacking.alike import checkpoint, close

EPOCHS, STOPS = 3, 3
SMALL = (
    *("data=diabetes", "model=linear", "loss=mse", "optimizer=adam", "trainer.precision=64-true"),
    *("data.batch_size=all", "callbacks.last.seconds=0", "resume=never"),
)


class CtrlC:
    """Press Ctrl-C at a line of a stack's code at the end of an epoch, counted from the second epoch on."""

    def __init__(self, line: int) -> None:
        self.line, self.lines = line, 0

    def trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        """Count a line; Python calls this."""
        if Path(frame.f_code.co_filename).parent.name != "stacking":
            return None
        self.lines += event == "line"
        if event == "line" and self.lines == self.line:
            signal.raise_signal(signal.SIGINT)
        return self.trace

    @contextmanager
    def pressed(self) -> Iterator[None]:
        """Have it pressed in this context, also where a shell has it ignored."""
        end, before = StackCallbacks.on_train_epoch_end, signal.signal(signal.SIGINT, signal.default_int_handler)

        def traced(of: StackCallbacks, trainer: Trainer, stack: LightningModule) -> None:
            outer = sys.gettrace()
            sys.settrace(self.trace if trainer.current_epoch else outer)
            try:
                end(of, trainer, stack)
            finally:
                sys.settrace(outer)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StackCallbacks, "on_train_epoch_end", traced)
            try:
                yield
            finally:
                signal.signal(signal.SIGINT, before)


def test_wherever_ctrl_c_comes_a_checkpoint_is_of_one_epoch(typed: Typed, undrawn: None, tmp_path: Path) -> None:
    alone = []
    for epochs in range(1, EPOCHS + 1):
        train(cfg := typed(*SMALL, "seed=0", f"trainer.max_epochs={epochs}"))
        alone.append({name: checkpoint(folder_of(cfg), name) for name in ("best", "last")})

    def lines(line: int) -> int:
        """Train a stack that is stopped at this line; return how many lines were counted."""
        where = (f"trainer.max_epochs={EPOCHS}", f"output_dir={tmp_path / str(line)}")
        (stack,) = split_stacks(
            plan_runs([list(typed(*SMALL, *where, f"seed={seed}").run.overrides) for seed in (0, 1)]), 2
        )
        ctrl_c = CtrlC(line)
        with ctrl_c.pressed(), pytest.raises(SystemExit, match="130") if line else nullcontext():
            train_together(stack)
        (folder,) = (tmp_path / str(line)).glob("*-s0-*")
        for name in ("best", "last"):
            mine = checkpoint(folder, name)
            yours = alone[mine["epoch"]][name]
            for what in ("state_dict", "optimizer_states", "global_step", "row", "processes", "epoch_so_far"):
                close(mine[what], yours[what], f"{name}.{what}, stopped at line {line}")
        return ctrl_c.lines

    for line in sorted(random.Random(0).sample(range(1, lines(0)), STOPS)):
        lines(line)
