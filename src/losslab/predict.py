"""What a trained model predicts for new rows: labels with their probabilities, or numbers in the data's units.

    losslab predict ckpt=outputs/…/best.ckpt input=poster.jpg                    # to the terminal
    losslab predict ckpt=outputs/…/best.ckpt input=posters/                      # a folder of images
    losslab predict ckpt=outputs/…/best.ckpt input=new.csv out=predictions.csv   # every row, into a table

The checkpoint stays in its run's folder, which says what was typed. Names and a table's statistics come from the rows
that it was trained on: type data.path=PLACE if they have moved. Type options of your own as for train.py: --config-dir
FOLDER, allow=PACKAGE. What is predicted is marked *: a label whose probability is above its own threshold, the one with
the best F1 on the validation rows; a class, the most probable one.
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from losslab.config import arguments, check
from losslab.config.words import command_words, parse_settings
from losslab.errors import Refused
from losslab.files import check_out
from losslab.spreadsheet import write_csv

if TYPE_CHECKING:
    from losslab.data.dataset import New

KEYS = ("ckpt", "input", "out", "allow", "data.*")
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
    rows = cfg.data.get("path")
    if rows and not Path(rows).expanduser().exists():
        raise Refused(
            f"data.path={rows}, the data that ckpt={ckpt} was trained on, is not there any more, and names and "
            "statistics come from it: type data.path=PLACE where it lies now"
        )
    return cfg, source, out


def read_images(source: Path, shape: Sequence[int], resize: bool) -> "New":
    """Read an image file, or all in a folder, as the training images were read: `(N, C, H, W)` uint8.

    Args:
        source: the file or the folder.
        shape: channels, height and width.
        resize: whether the training images were resized to that shape; if not, other images must have it.

    Raises:
        Refused: where there is no image, or none of that size.
    """
    import numpy as np
    from PIL import Image

    from losslab.data.dataset import New
    from losslab.data.folder import list_images
    from losslab.data.notes import few
    from losslab.data.pixels import decode, describe, open_image

    channels, height, width = shape
    names = [source.name] if source.is_file() else list_images(source)
    if not names:
        raise Refused(f"input={source} holds no images: type the path of an image, or of a folder of images")
    root, x, titles, problems = source.parent if source.is_file() else source, [], [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd but readable files
        for name in names:
            try:
                with open_image(root / name) as source_image:
                    size = source_image.size
                if not resize and size != (width, height):
                    problems[name] = f"{size[0]}x{size[1]} pixels, where the model takes {width}x{height}"
                    continue
                image = decode(root / name, (height, width))
            except Exception as error:  # what a broken file raises is up to its decoder
                problems[name] = describe(error)
                continue
            if channels == 1:
                image = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))[None]
            x.append(image)
            titles.append(name)
    if not x:
        name, why = next(iter(problems.items()))
        raise Refused(f"input={source} is no image that the model takes ({name}: {why}): type another file")
    notes = [f"{len(problems)} files left out: {few([f'{name} ({why})' for name, why in problems.items()])}"]
    return New(np.stack(x), titles, notes if problems else [])


def predict(cfg: DictConfig, source: Path) -> tuple[list[list[str]], list[str], list[str]]:
    """Predict: return the table with its header, a line for each row, and notes.

    Raises:
        Refused: where the input is not what the model takes, or the run cannot be made again.
    """
    import torch

    from losslab.restore import restore

    table = str(cfg.data._target_).startswith("losslab.data.tables.")
    data, task, loss, model = restore(cfg, **({"new": str(source)} if table else {}))
    new = data.new
    if new is None:
        if len(data.shape) != 3:
            raise Refused(f"data={cfg.run.choices.data} is neither a table nor images: there is nothing to read anew")
        new = read_images(source, data.shape, resize="size" in cfg.data)
    with torch.inference_mode():
        x = torch.from_numpy(new.x)
        scores = torch.cat([model(part).float() for part in torch.split(x, TOGETHER)])
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
    return rows, lines, new.notes


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
