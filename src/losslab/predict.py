"""What a trained model predicts for new rows: labels with their probabilities, or numbers in the data's units.

    losslab predict ckpt=outputs/…/best.ckpt input=poster.jpg                    # to the terminal
    losslab predict ckpt=outputs/…/best.ckpt input=posters/                      # a folder of images
    losslab predict ckpt=outputs/…/best.ckpt input=new.csv out=predictions.csv   # every row, into a table

The checkpoint stays in its run's folder, which says what was typed. It holds names, medians, categories and scales: the
data that it was trained on may have changed, or be gone. Columns are matched by name. Type options of your own as for
train.py: --config-dir FOLDER, allow=PACKAGE. What is predicted is marked *: a label whose probability is above its own
threshold, the one with the best F1 on the validation rows; a class, the most probable one.
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from losslab.config import arguments, check
from losslab.config.words import command_words, parse_settings
from losslab.errors import Refused
from losslab.files import check_out
from losslab.spreadsheet import write_csv

KEYS = ("ckpt", "input", "out", "allow")
LINES = 20  # rows that are shown in the terminal
SHOWN = 3  # labels or classes that are shown of each row, and all that are marked
TOGETHER = 1024  # rows that go through the model at once


def parse_request(words: Sequence[str]) -> tuple[DictConfig, Path, Path | None]:
    """Compose the checkpoint's run, and return it with what to predict on and the table to write, all without torch.

    Raises:
        Refused: for anything that could have been mistyped.
    """
    words, folders = arguments.take_folders(words)
    typed = parse_settings(words, KEYS)
    for key, example in (("ckpt", "outputs/…/best.ckpt"), ("input", "new.csv")):
        if not typed.get(key):
            raise Refused(f"a prediction needs {key}: type {key}=FILE, such as {key}={example}")
    ckpt, source = Path(typed.pop("ckpt")), Path(typed.pop("input")).expanduser()
    if not ckpt.is_file():
        raise Refused(f"ckpt={ckpt} is not there: type the path of a best.ckpt in a run's folder")
    if not (ckpt.parent / "status.json").is_file():
        raise Refused(f"ckpt={ckpt} stands apart from its run's status.json, which says what it is: keep it there")
    if not source.exists():
        raise Refused(f"input={source} is not there: type the path of a table, of an image, or of a folder of images")
    out = check_out(typed.pop("out"), ".csv") if "out" in typed else None
    more = [f"{key}={value}" for key, value in typed.items()]
    cfg = check.configure(
        [
            *arguments.search_path(folders),
            f"ckpt={arguments.quote_value(str(ckpt))}",
            f"output_dir={arguments.quote_value(tempfile.gettempdir())}",
            *more,
        ]
    )
    return cfg, source, out


def predict(cfg: DictConfig, source: Path) -> tuple[list[list[str]], list[str], list[str]]:
    """Predict: return the table with its header, a line for each row, and notes.

    Raises:
        Refused: where the input is not what the model takes, or the run cannot be made again.
    """
    import torch

    from losslab.restore import load_predictor

    run = load_predictor(cfg)
    data, task, loss = run.data, run.task, run.loss
    if run.encoder is None:
        raise Refused(f"data={cfg.run.choices.data} is neither a table nor images: there is nothing to read anew")
    new = run.encoder.read(source)
    with torch.inference_mode():
        x = torch.from_numpy(new.x)
        scores = torch.cat([run.model(part).float() for part in torch.split(x, TOGETHER)])
        columns = task.columns(data, loss, scores)
        numbers, marked = torch.stack([*columns.values()], 1), task.mark(scores)
        words = task.describe(data, task.decide(scores))
    rows = [["row", "predicted", *columns]]
    rows += [
        [title, predicted, *(f"{number:.6g}" for number in row)]
        for title, predicted, row in zip(new.titles, words, numbers.tolist(), strict=True)
    ]
    if marked is None:
        lines = [
            ", ".join(f"{name} {number:.5g}" for name, number in zip(columns, row, strict=True))
            for row in numbers.tolist()
        ]
    else:
        p = numbers[:, : len(data.outputs)]
        lines = [format_top(data.outputs, *pair) for pair in zip(p.tolist(), marked.tolist(), strict=True)]
    return rows, lines, [*run.notes, *new.notes]


def format_top(names: Sequence[str], p: Sequence[float], marked: Sequence[bool]) -> str:
    """Write the most probable classes or labels and all that are predicted, which are marked `*`.

    >>> format_top(["a", "b", "c", "d", "e"], [0.1, 0.5, 0.3, 0.2, 0.05], [False, True, False, False, True])
    '* b 0.5, * e 0.05, c 0.3, d 0.2'
    """
    order = sorted(range(len(p)), key=lambda place: (not marked[place], -p[place]))
    shown = set(sorted(order, key=lambda place: -p[place])[:SHOWN])
    return ", ".join(
        f"{'* ' * marked[place]}{names[place]} {p[place]:.3g}" for place in order if place in shown or marked[place]
    )


def main() -> None:
    """Run the command: a mistake ends in one sentence and exit code 1."""
    with command_words(__doc__) as words:
        cfg, source, out = parse_request(words)
        rows, lines, notes = predict(cfg, source)
        for note in notes:
            print(f"note  {note}", file=sys.stderr)
        if out is not None:
            write_csv(out, rows)
            print(f"{len(lines):,} predictions\n{out}")
            return
        width = max(len(row[0]) for row in rows[1 : LINES + 1])
        for row, line in zip(rows[1 : LINES + 1], lines, strict=False):
            print(f"{row[0]:<{width}}  {line}")
        if len(lines) > LINES:
            print(f"and {len(lines) - LINES:,} more: type out=predictions.csv for all")


if __name__ == "__main__":
    main()
