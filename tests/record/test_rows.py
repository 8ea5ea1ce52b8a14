"""A damaged `history.csv` costs the rows that are damaged at most, and a resumed run none of them."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from losslab.record.rows import read_history
from losslab.train import train
from tests.conftest import Typed, cut_off, numbers

WHOLE = "epoch,step,val/rmse\n0,1,0.5\n1,2,0.25\n2,3,0.125\n"

DAMAGES: dict[str, Callable[[str], bytes]] = {
    "half a line": lambda text: text[:-4].encode(),
    "half a line and another": lambda text: (text[:-4] + "9,9\n").encode(),
    "no end of a line": lambda text: text[:-1].encode(),
    "zeros": lambda text: cut(text).encode() + bytes(40),
    "zeros and an end": lambda text: cut(text).encode() + bytes(40) + b"\n",
    "text": lambda text: (cut(text) + "garbage\n").encode(),
    "a quotation mark": lambda text: (cut(text) + '"\n').encode(),
    "no text": lambda text: cut(text).encode() + b"\xff\xfe\n",
    "too many cells": lambda text: (text[:-1] + ",1\n").encode(),
    "an empty line": lambda text: (text + "\n").encode(),
    "the same row again": lambda text: (text + text.splitlines()[-1] + "\n").encode(),
    "a later garbage": lambda text: (text + "a,b,c\n").encode(),
}


def cut(text: str) -> str:
    """All lines but the last."""
    return "".join(text.splitlines(keepends=True)[:-1])


@pytest.mark.parametrize("what", DAMAGES)
def test_rows_that_are_whole_are_read(tmp_path: Path, what: str) -> None:
    (tmp_path / "history.csv").write_bytes(DAMAGES[what](WHOLE))
    rows = read_history(tmp_path / "history.csv")
    assert [row["epoch"] for row in rows] in ([0, 1], [0, 1, 2])
    assert all(row["val/rmse"] == 0.5 ** (row["epoch"] + 1) for row in rows)


def test_no_bytes_are_a_traceback(tmp_path: Path) -> None:
    chance, file = random.Random(0), tmp_path / "history.csv"
    for _ in range(300):
        data = bytearray(WHOLE.encode())
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        file.write_bytes(data[: chance.randint(0, len(data))])
        read_history(file)


def test_a_run_resumes_bit_for_bit_whatever_became_of_the_last_row(typed: Typed, tmp_path: Path, undrawn: None) -> None:
    words = ("data=heights", "model=linear", "trainer.max_epochs=5", "callbacks.last.seconds=0")
    whole = numbers(train(typed(*words, f"output_dir={tmp_path / 'whole'}")))
    ckpt = cut_off(typed(*words), 3)
    (expected,) = (tmp_path / "whole").glob("*/history.csv")
    history, status = ckpt.with_name("history.csv"), ckpt.with_name("status.json")
    checkpoint, record, lines = ckpt.read_bytes(), json.loads(status.read_text()), history.read_text()
    for what, damage in DAMAGES.items():
        ckpt.write_bytes(checkpoint)
        status.write_text(json.dumps({**record, "status": "preempted"}))
        history.write_bytes(damage(lines))
        assert numbers(train(typed(*words))) == whole, what
        assert without_clock(history) == without_clock(expected), what


def without_clock(file: Path) -> list[dict[str, float]]:
    """The rows of a run, but for what differs from one machine to the next."""
    return [{key: value for key, value in row.items() if "second" not in key} for row in read_history(file)]
