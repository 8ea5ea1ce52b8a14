"""The data of a sweep's runs, read once before anything is trained, so that a mistake in them is told at once."""

import json
from itertools import product

from losslab.config import check, compose
from losslab.config.flat import flatten
from losslab.data.make import check_losses, make_data
from losslab.sweep.plan import Plan, to_overrides

SPLITS = ("data.seed", "data.fold")  # choose rows among those that are read
READ = ("task", "data", "model")  # groups that decide what is read


def check_data(plan: Plan) -> None:
    """Read the data of all runs of a plan, and check the targets against the losses.

    Raises:
        Refused: where they cannot be read, or do not fit a loss.
    """
    keys = [key for key in plan.grid if key in READ or key.startswith("data.")]
    keys += [key for key in plan.grid if key == "loss"]  # the last: all losses of the same data in a row
    read, last = "", None
    with compose.hydra_ready():
        for values in product(*(plan.grid[key] for key in keys)):
            setting = {"logger": "false", **plan.first(dict(zip(keys, values, strict=True)))}
            cfg = check.configure(to_overrides(setting))
            settings = {key: value for key, value in flatten(cfg).items() if key.startswith("data.")}
            key = json.dumps({k: v for k, v in settings.items() if k not in SPLITS}, sort_keys=True, default=str)
            if key == read and last is not None:
                check_losses(cfg, last)
            else:
                read, last = key, make_data(cfg)
