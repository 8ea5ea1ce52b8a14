"""Take the current folder off Python's path, for this process and its children. Each command imports this first.

`python -m losslab.sweep` and `python train.py` put a folder in front of all others. A file called `statistics.py` or
`rich.py` there, or a package `hydra_plugins`, would run instead of the module of that name, or in place of one that is
not installed. `config.targets.AllowedPackages` finds the packages that the user allows in the folder.
"""

import os
import sys

HERE = os.getcwd()  # noqa: PTH109 - only what Python has loaded by itself is imported here
OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
SCRIPT = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120

chosen = [os.path.abspath(name) for name in os.environ.get("PYTHONPATH", "").split(os.pathsep) if name]  # noqa: PTH100
sys.path[:] = [
    name
    for place, name in enumerate(sys.path)
    if os.path.abspath(name) in (OWN, *chosen)  # noqa: PTH100
    or not (os.path.abspath(name) == HERE or (place == 0 and os.path.abspath(name) == SCRIPT))  # noqa: PTH100
]
os.environ["PYTHONSAFEPATH"] = "1"
