"""The class of an image is the subfolder that it lies in; folders such as train and test may hold these subfolders."""

from pathlib import Path

from losslab.config.catalogue import TRUTHS
from losslab.data.labels import Labels
from losslab.data.notes import count, few, write_setting
from losslab.data.rows import PARTS
from losslab.data.typed_files import TYPED
from losslab.errors import Refused


def read_subfolders(root: Path, files: list[str], truth: str, task: str) -> Labels:
    """Take the name of the subfolder that an image lies in for its class; above may lie folders train, val and test.

    Raises:
        Refused: if the target is no class, or the subfolders are none.
    """
    classes = sorted({name.split("/")[0] for name in files if "/" in name})
    if truth != "class":
        also = f", or task={TRUTHS['class']}, where each subfolder is a class" if len(classes) > 1 else ""
        raise Refused(f"data.path={root} holds no CSV or TSV, which task={task} needs: type data.labels=FILE{also}")
    parts = {name: PARTS[name.lower()] for name in classes if name.lower() in PARTS}
    depth = int(len(parts) == len(classes) > 0)
    inside = [name for name in files if name.count("/") > depth]
    if depth:
        check_part_folders(root, {name.split("/")[0] for name in inside}, parts)
    elif len(classes) < 2:
        raise Refused(say_one_folder(root, classes, inside))
    labels = Labels(truth, task, {name: [name.split("/")[depth]] for name in inside}, ["subfolder"])
    shown = few(sorted({cells[0] for cells in labels.cells.values()}))
    labels.notes.append(f"the class of an image is its subfolder: {shown}")
    if depth:
        labels.parts = {name: parts[name.split("/")[0]] for name in inside}
        labels.notes.append(f"the parts of the data are the folders {', '.join(classes)}")
    labels.problems += [(name, "lies in no subfolder") for name in sorted({*files} - {*inside})]
    if labels.problems:
        labels.notes.append(f"{count(len(labels.problems), 'image')} outside of the subfolders, left out")
    return labels


def check_part_folders(root: Path, filled: set[str], parts: dict[str, str]) -> None:
    """Refuse folders such as train and test where one of the two is lacking, or holds no classes."""
    found = {parts[name] for name in filled}
    if {"train", "test"} <= found:
        return
    lacking = "train" if "train" not in found else "test"
    named = next((name for name in parts if parts[name] == "train"), min(parts))
    holds = f"holds {' and '.join(parts)}"
    missing = (
        f"of which {lacking} has no subfolder for each class" if lacking in parts.values() else f"and no {lacking}"
    )
    raise Refused(
        f"data.path={root} {holds}, {missing}: type {write_setting('data.path', str(root / named))}, or add it"
    )


def say_one_folder(root: Path, classes: list[str], inside: list[str]) -> str:
    """Say what to type for a folder that has not two classes below it."""
    deeper = sorted({name.split("/")[1] for name in inside if name.count("/") > 1})
    if len(deeper) > 1:
        path = write_setting("data.path", str(root / classes[0]))
        return f"data.path={root} holds one folder, {classes[0]}, with {few(deeper)} in it: type {path}"
    one = f" ({classes[0]} is the only one)" if classes else ""
    tables = [f.name for f in root.iterdir() if f.suffix.lower() in (".txt", *TYPED) and f.is_file()]
    named = write_setting("data.labels", str(root / min(tables))) if tables else "data.labels=FILE"
    return f"data.path={root} holds neither a CSV or TSV of labels nor a subfolder for each class{one}: type {named}"
