"""What a signal does to each command at each moment: one sentence and the signal's exit code, or the command's own end.

    python benchmarks/interrupts.py                      # every 0.1 s of the first 8 s; takes half an hour on two cores
    python benchmarks/interrupts.py step=1 until=5       # a look

Only Python's own start, which takes a twentieth of a second, is out of our hands.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from losslab.config.words import command_words, parse_settings

TINY = ("data=heights", "model=linear", "logger=false", "trainer.enable_progress_bar=false")
COMMANDS = {
    "run": (*TINY, "trainer.max_epochs=100000"),
    "multirun": ("-m", *TINY, "trainer.max_epochs=100000", "seed=0,1"),
    "stacked": ("-m", "hydra/launcher=stacked", *TINY, "trainer.max_epochs=100000", "seed=0,1"),
    "compare": ("compare", "runs"),
    "card": ("card", "loss=focal"),
    "paths": ("paths",),
    "predict": ("predict", "ckpt=CKPT", "input=new.csv"),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def fault(folder: Path, words: tuple[str, ...], by: signal.Signals, moment: float) -> str | None:
    """What is wrong with how a command ends that gets a signal after so many seconds; `None` where nothing is."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "losslab", *words], cwd=folder, stdout=said, stderr=said, start_new_session=True
        )
        time.sleep(moment)
        process.send_signal(by)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            return "it did not end"
        said.seek(0)
        text = said.read().decode(errors="replace")
    if "Traceback" in text or "Error" in text:
        return f"exit code {code}: {text[-300:]}"
    over = (0, -by) if text else (0,)  # Python takes handlers away when it ends, with all that was to do done
    return None if code in (*over, 128 + by) else f"exit code {code}: {text[-300:]}"


def prepare(folder: Path) -> dict[str, tuple[str, ...]]:
    """Runs to compare, and a checkpoint and rows to predict; the commands with its path."""
    for loss in ("mse", "mae"):
        words = (*TINY, "trainer.max_epochs=2", "output_dir=runs", f"loss={loss}")
        subprocess.run([sys.executable, "-m", "losslab", *words], cwd=folder, check=True, capture_output=True)
    (folder / "new.csv").write_text("height_cm\n170\n180\n")
    ckpt = next(folder.glob("runs/*/best.ckpt")).relative_to(folder)
    return {name: tuple(word.replace("CKPT", str(ckpt)) for word in words) for name, words in COMMANDS.items()}


def main() -> None:
    """The command: a line for each command and signal."""
    with command_words(__doc__) as said:
        typed = parse_settings(said, ("step", "until", "first"))
        step, until, first = (
            float(typed.get(key, usual)) for key, usual in (("step", 0.1), ("until", 8), ("first", 0.1))
        )
        moments = [first + step * k for k in range(int((until - first) / step) + 1)]
        os.environ["OMP_NUM_THREADS"] = "1"
        with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(os.cpu_count()) as pool:
            folder = Path(place)
            for name, words in prepare(folder).items():
                for by in SIGNALS:
                    look_at(name, words, by, moments, folder, pool)


def look_at(
    name: str, words: tuple[str, ...], by: signal.Signals, moments: list[float], folder: Path, pool: ThreadPoolExecutor
) -> None:
    """Print how many of the moments a command bore a signal at, and what was wrong with the others."""
    each = [(*words, f"output_dir=out-{name}-{by}-{k}") if "data=heights" in words else words
            for k in range(len(moments))]  # fmt: skip
    faults = pool.map(fault, [folder] * len(each), each, [by] * len(each), moments)
    bad = [(moment, what) for moment, what in zip(moments, faults, strict=True) if what]
    print(f"{name:9}{by.name:8}{len(moments) - len(bad)} of {len(moments)} moments", flush=True)
    for moment, what in bad:
        print(f"    after {moment:.2f} s: {what}", flush=True)


if __name__ == "__main__":
    main()
