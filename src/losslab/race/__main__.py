"""A race: which of these to use, decided with as few trainings as possible.

    losslab race loss=mse,mae,huber              # on the default data
    losslab race data=csv data.path=my.csv data.target=price loss=mse,mae,huber
    losslab race FILE.yaml budget=2h            # the candidates of a sweep file
    losslab race task=multi_label 'loss=glob(*)' # all losses that fit

The race tunes every candidate equally, then trains all of them with one new
seed after another. After each look it drops the candidates that are surely not
the best. It pauses those that are as good as the best, within the difference.
It ends when nothing is undecided, or when the budget is used. In 95 % of races
every sentence is right, however often the race looks, and even if you stop it
and start it again.

    difference=2    differences below this do not matter to you, in per cent (of
                    an error) or points (of an accuracy); default: what about 20
                    seeds can detect, set after the first look and printed
    budget=2h       the most that the race may use: 500 (runs), 90s, 30m, 2h or
                    8gpuh; default: up to 100 seeds
    tune=8          try 8 settings of each candidate for a third of the epochs,
                    then the best third of them for all epochs. A setting is a
                    learning rate and, where the loss has one, a value of its
                    own number. All use the same split. default: 8; tune=0 races
                    with the default settings, each seed on its own split
    claim=rows      what the verdict applies to, as in losslab compare: rows,
                    seeds or splits; default: what the runs suggest
    n=2             processes at a time; default: as many as there are cores or
                    GPUs; n=0 trains in this process
    stack=32        up to 32 runs train as one in each process; default: 32 for
                    small models on GPUs, else 1
    engine=ray      train on the machines of a Ray cluster, with the settings of
                    losslab sweep
    retry=true      repeat failed trainings
    log=true        log verdict, tables and the race's state to W&B as a run of
                    type report
    name=prices     the name of the race and its folder, OUTPUT/races/NAME;
                    default: race, or the name of the sweep file

Type the same command again to continue a race; you may add candidates or
budget. Type it on another machine that shares the folder, and that machine
helps. The page is OUTPUT/races/NAME/comparison/index.html.
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
