"""What torch.compile would add to a bare loop: measured last, as compiling takes longer than all that it is beside."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import torch

from on_gpu.place import Found, Place
from on_gpu.speed import make_large

NAME = "ResNet-18: compiled bare loop, x bare loop"
LEAST = 60  # seconds: compiling forward and backward passes takes one to two minutes


def compiled(place: Place) -> Iterator[Found]:
    """Time the bare loop of ResNet-18 compiled, beside itself as it is."""
    left = place.until - time.monotonic()
    if left < LEAST:
        yield Found(NAME, None, reason=f"{left:.0f} s are left for it")
        return
    job = make_large(place)
    make = job.model
    seconds = [job.bare()["bare loop"] for _ in range(2)][-1]  # the first loads kernels, or compiles
    fast: Any = torch.compile(make().to(place.device))
    job.model = lambda: fast

    def too_long(*_: Any) -> None:
        raise TimeoutError(f"it was not compiled within {left:.0f} s")

    if hasattr(signal, "SIGALRM"):  # not on Windows
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(int(left))
    try:
        quick = [job.bare()["bare loop"] for _ in range(2)][-1]
    except Exception as error:  # such as without a C compiler
        yield Found(NAME, None, reason=" ".join(str(error).split())[:200])
        return
    finally:
        if hasattr(signal, "SIGALRM"):
            signal.alarm(0)
    yield Found(NAME, seconds / quick)


CHECKS = [compiled]
