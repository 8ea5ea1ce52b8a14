"""A trained model as ONNX: what ONNX Runtime says of new rows is what `predict` says."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from losslab import export, predict
from losslab.data.encoder import make_encoder
from losslab.data.tables import SHIPPED
from losslab.errors import Refused
from losslab.train import train
from tests.conftest import Typed, folder_of

WHY = "pip install 'losslab[onnx]'"
for name in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(name, reason=WHY)


def exported(folder: Path, out: Path, source: Path) -> tuple[Any, pd.DataFrame, str]:
    """What the files that `export` writes make of new rows, what `predict` says of them, and the card."""
    import onnxruntime

    cfg, file = export.parse_request([f"ckpt={folder}/best.ckpt", f"out={out}"])
    notes = export.export(cfg, file)
    assert notes[-1].startswith("ONNX Runtime agrees with the model to ")
    beside = json.loads(out.with_suffix(".json").read_text())
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (y,) = session.run(
        [beside["output"]["name"]], {beside["input"]["name"]: make_encoder(beside["encoder"]).read(source).x}
    )
    (heading, *rows), _, _ = predict.predict(
        *predict.parse_request([f"ckpt={folder}/best.ckpt", f"input={source}"])[:2]
    )
    found = pd.DataFrame(rows, columns=heading)
    columns = [name for name in heading[1:] if name != "predicted"]
    assert columns == beside["output"]["columns"]
    return y, found[columns].astype(float), out.with_suffix(".md").read_text()


@pytest.mark.parametrize("words", [("loss=quantile",), ("model=bag_of_words", "data.buckets=64")])
def test_a_table(typed: Typed, undrawn: None, tmp_path: Path, words: tuple[str, ...]) -> None:
    rows = pd.read_csv(SHIPPED / "diamonds.csv.gz").iloc[:300]
    rows.loc[5, "carat"] = np.nan
    rows.to_csv(tmp_path / "own.csv", index=False)
    own = ["data=csv", f"data.path={tmp_path / 'own.csv'}", "data.target=price", "trainer.max_epochs=2", *words]
    cfg = typed(*own)
    summary = train(cfg)
    rows.drop(columns="price").iloc[:7].to_csv(tmp_path / "new.csv", index=False)
    y, found, card = exported(folder_of(cfg), tmp_path / "model.onnx", tmp_path / "new.csv")
    np.testing.assert_allclose(y, found, rtol=1e-5)  # `predict` writes six digits
    assert "It predicts the number price." in card
    (low, high), value = re.findall(r"rmse \(primary\).*\| (\S+) to (\S+) \|", card)[0], summary["test/rmse"]
    assert float(low) < value < float(high)
    assert "| cut | category | 5 categories: Fair, Good, Ideal, Premium, Very Good |" in card
    assert str(tmp_path) not in card, "a card is handed on"


def test_images_are_normalised_in_the_graph(typed: Typed, undrawn: None, tmp_path: Path) -> None:
    cfg = typed("data=digits", "model=cnn", "model.channels=[4]", "trainer.max_epochs=1")
    train(cfg)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    y, found, card = exported(folder_of(cfg), tmp_path / "model.onnx", tmp_path / "one.png")
    np.testing.assert_allclose(y, found, atol=1e-5)
    assert y.sum() == pytest.approx(1)
    assert "bytes from 0 to 255 of shape (1, 8, 8)" in card


def test_what_cannot_be_exported_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match=r"an export needs ckpt: type ckpt=FILE, such as ckpt=outputs"):
        export.parse_request([])
    with pytest.raises(Refused, match=r"ckpt=none.ckpt is not there"):
        export.parse_request(["ckpt=none.ckpt"])
    monkeypatch.setattr(export, "compose_checkpoint", lambda *_: (None, {"out": "model.txt"}))
    with pytest.raises(Refused, match=r"out=model.txt must end in .onnx: type out=model.onnx"):
        export.parse_request([])
    monkeypatch.setattr(export, "compose_checkpoint", lambda *_: (None, {"out": str(tmp_path / "model.onnx")}))
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(
        Refused, match=re.escape("an export needs onnx and onnxscript: type pip install 'losslab[onnx]'")
    ):
        export.parse_request([])
