"""A race: which of these losses and optimizers to use, decided with as few trainings as possible.

    losslab race loss=mse,mae,huber                                    # on the default data
    losslab race data=csv data.path=my.csv data.target=price loss=mse,mae,huber optimizer=adam,momentum
    losslab race sweeps/loss_x_optimizer.yaml budget=2h difference=0.5  # the candidates of a sweep file
    losslab race task=multi_label 'loss=glob(*)' budget=500             # all losses that fit

All candidates are tuned alike, then trained with fresh seeds, one seed after the other. After each look those that are
worse than another are dropped, and those that are the same as the best within the difference wait. The race ends when
nothing is undecided, or the budget is used. All that it says is right together in 95 % of races, however often it looks
and whenever it is stopped and started again.

    difference=1    what is worth finding, in per cent or points: less is the same
    budget=2h       the most that it may use: 500 (runs), 30m, 2h or 8gpuh; none without it
    tune=8          settings of each that are tried: the learning rate, and the loss's own number; one split for all.
                    tune=0 races with the defaults, each seed on a split of its own
    claim=rows      what to speak of, as in losslab compare: rows, seeds or splits
    n=2             processes at a time, and stack=32, the most runs that each of them trains as one
    log=true        log verdict, tables and the race's state to W&B as a run of type report
    name=other      of the race and its folder, OUTPUT/races/NAME

The same command goes on with a race; more candidates or a larger budget are no other race. On other machines that
share the folder, it helps.
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import sys

from losslab.config.words import command_words
from losslab.sweep.stopping import stop_driver, until_signalled


def main() -> None:
    """Run a race. A mistake ends in one sentence and exit code 1, a signal in how to go on."""
    until_signalled(stop_driver)  # before the imports, which take a second
    with command_words(__doc__) as words:
        from losslab.race.driver import race

        sys.exit(race(words) if words else print(__doc__))


if __name__ == "__main__":
    main()
