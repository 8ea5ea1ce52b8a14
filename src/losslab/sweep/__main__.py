"""A W&B sweep file, run on this machine without a server or an account.

    losslab sweep FILE.yaml          # as many runs at a time as there are cores
    losslab sweep FILE.yaml n=4 trainer.max_epochs=9  # settings for every run
    losslab sweep FILE.yaml seed=0,1 optimizer=adam  # instead of the file's
    losslab sweep FILE.yaml dry=true  # what it would run, and how long
    losslab sweep FILE.yaml 'test_seeds=[7,8]'  # then test the best of each

    n=2                   runs at a time; n=0 trains them in this process, one
                          after the other
    stack=32              train up to 32 runs as one, where they differ in seed,
                          loss and the optimizer's numbers alone; default:
                          stack=auto, which is 32 for small models on GPUs, else
                          1
    name=other            the name of the sweep and its folder,
                          OUTPUT/sweeps/NAME; default: the file's name
    retry=true            repeat failed jobs, and those whose run folder you
                          deleted
    dry=true              print the cells, the runs and their time, and run
                          nothing
    run_cap=24            at most this many runs, the same number for each cell;
                          of a grid, the first seeds
    engine=ray            train on the machines of a Ray cluster, without a
                          shared disk: pip install 'losslab[ray]'
    address=HEAD:6379     the cluster; default: RAY_ADDRESS, else a new one on
                          this machine
    cpus_per_run=1        and gpus_per_run=0.125: with Ray, the share of a
                          machine that each run gets
    --config-dir FOLDER   options of your own
    test_seeds=[100,101]  after tuning, test the setting of each cell that is
                          best on validation, with these seeds

A sweep that tunes needs one split for all seeds, data.seed=0, unless the test
rows are fixed: otherwise the test rows of one seed would be tuning rows of
another.

Type the same command again to do what is missing. Type it on other machines
that share the folder, and they help. Random and Bayesian search and hyperband
are Optuna's.
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import sys

from losslab.config.words import command_words
from losslab.sweep.stopping import stop_driver, until_signalled


def main() -> None:
    """Run a sweep file. A mistake ends in one sentence and exit code 1, a signal in how to go on."""
    until_signalled(stop_driver)  # before the imports, which take a second
    with command_words(__doc__) as words:
        from losslab.sweep.driver import sweep
        from losslab.sweep.file import pick_file

        path, more = pick_file(words)
        sys.exit(sweep(path, more) if path else print(__doc__))


if __name__ == "__main__":
    main()
