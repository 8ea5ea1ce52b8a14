"""Predictions on new rows: what the run's own test said of the same rows is the answer."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn import metrics
from torch import nn

from losslab import predict
from losslab.config.check import configure
from losslab.config.make import make
from losslab.data.dataset import Dataset
from losslab.data.encoder import TableEncoder, find_id
from losslab.data.reading import read_table
from losslab.data.tables import SHIPPED
from losslab.errors import Refused
from losslab.restore import Predictor, stand_in
from losslab.tasks import MultiLabel, SingleLabel, Task
from losslab.train import train
from tests.conftest import Typed, folder_of
from tests.processes import ran

Trained = Callable[..., tuple[Path, dict[str, float], Dataset]]


@pytest.fixture
def trained(typed: Typed, undrawn: None) -> Trained:
    """A short run: its folder, what its test said, and its data."""

    def run(*words: str) -> tuple[Path, dict[str, float], Dataset]:
        cfg = typed(*words)
        summary = train(cfg)
        return folder_of(cfg), summary, make(cfg, "data")

    return run


def predictions(folder: Path, source: Path, *words: str) -> pd.DataFrame:
    """The table that `out=` writes, which is what `predicted` returns."""
    asked = predict.parse_request([f"ckpt={folder}/best.ckpt", f"input={source}", *words])
    (heading, *rows), lines, _ = predict.predict(asked.cfg, asked.source, asked.threshold, asked.id)
    assert len(rows) == len(lines)
    return pd.DataFrame(rows, columns=heading).astype({name: float for name in heading[1:] if name != "predicted"})


@pytest.mark.parametrize("loss", ["mae", "poisson", "quantile", "gaussian_nll"])
def test_numbers_are_those_that_the_run_was_tested_by(trained: Trained, tmp_path: Path, loss: str) -> None:
    folder, summary, data = trained("data=diamonds", f"loss={loss}", "trainer.max_epochs=1", "data.test=0.02")
    rows = read_table(str(SHIPPED / "diamonds.csv.gz"), "").iloc[data.split["test"]]
    rows.drop(columns="price").to_csv(tmp_path / "new.csv", index=False)
    found = predictions(folder, tmp_path / "new.csv")
    true = rows["price"].astype(float)
    assert metrics.root_mean_squared_error(true, found["price"]) == pytest.approx(summary["test/rmse"], rel=1e-4)
    assert metrics.mean_absolute_error(true, found["price"]) == pytest.approx(summary["test/mae"], rel=1e-4)
    if loss == "quantile":
        low, middle, high = (found[f"price, quantile {level}"] for level in (0.1, 0.5, 0.9))
        assert (middle == found["price"]).all()
        ours = [metrics.mean_pinball_loss(true, each, alpha=q) for each, q in ((low, 0.1), (middle, 0.5), (high, 0.9))]
        spread = data.targets("train").std()
        assert np.mean(ours) / spread == pytest.approx(summary["test/loss"], rel=1e-4)
    if loss == "gaussian_nll":
        spread = found["price, standard deviation"]
        from scipy import stats

        each = -stats.norm.logpdf(true, found["price"], spread) - np.log(2 * np.pi) / 2
        assert each.mean() - np.log(data.targets("train").std()) == pytest.approx(summary["test/loss"], rel=1e-3)


def test_classes_of_image_files_are_those_that_the_run_was_tested_by(trained: Trained, tmp_path: Path) -> None:
    folder, summary, data = trained("data=digits", "trainer.max_epochs=2")
    for mode in ("L", "RGB"):
        (tmp_path / mode).mkdir()
        for row in data.split["test"]:
            assert isinstance(data.x, np.ndarray)
            Image.fromarray(data.x[row, 0]).convert(mode).save(tmp_path / mode / f"{row:04}.png")
        found = predictions(folder, tmp_path / mode)
        true = data.y[data.split["test"]]
        p = found[data.outputs].to_numpy()
        assert found["row"].tolist() == [f"{row:04}.png" for row in data.split["test"]]
        assert (found["predicted"].astype(int) == true).mean() == pytest.approx(summary["test/accuracy"])
        assert metrics.log_loss(true, p / p.sum(1, keepdims=True)) == pytest.approx(summary["test/log_loss"], rel=1e-4)
    Image.new("L", (28, 28)).save(tmp_path / "large.png")
    with pytest.raises(Refused, match=r"large.png: 28x28 pixels, where the model takes 8x8"):
        predictions(folder, tmp_path / "large.png")


@pytest.mark.parametrize("drop", ["", "data.drop=[title]"])
def test_labels_are_those_that_the_run_was_tested_by(trained: Trained, tmp_path: Path, drop: str) -> None:
    frame = read_table(str(SHIPPED / "movies.tsv.gz"), "").iloc[:900]
    if drop:  # then there is no text: a model of vectors
        frame = frame.drop(columns=[name for name in frame.columns if name not in ("title", "genres", "year")])
    frame.to_csv(tmp_path / "films.csv", index=False)
    model = ["model=mlp", drop] if drop else ["data.buckets=512"]
    own = ["data=csv", f"data.path={tmp_path / 'films.csv'}", "data.target=genres", "task=multi_label"]
    folder, summary, data = trained(*own, *model, "trainer.max_epochs=3")
    rows = frame.iloc[data.split["test"]]
    rows.drop(columns="genres").to_csv(tmp_path / "new.csv", index=False)
    found = predictions(folder, tmp_path / "new.csv")
    true = data.targets("test")
    p = found[data.outputs].to_numpy()
    assert metrics.log_loss(true.ravel(), p.ravel()) == pytest.approx(summary["test/log_loss"], rel=1e-4)

    def said(*words: str) -> NDArray[np.bool_]:
        table = predictions(folder, tmp_path / "new.csv", *words)
        return np.array(
            [[name in text.strip("{}").split(", ") for name in data.outputs] for text in table["predicted"]]
        )

    for words, metric in (((), "f1"), (("threshold=0.5",), "f1"), (("threshold=tuned",), "f1_tuned")):
        ours = metrics.f1_score(true, said(*words), average="macro", zero_division=0)
        assert ours == pytest.approx(summary[f"test/{metric}"], rel=1e-5)
    assert (said("threshold=0.2") == (p > 0.2)).all()
    assert (said("threshold=prior") == (p > data.targets("train").mean(0))).all()
    assert not drop or found["row"].tolist() == [str(row) for row in range(len(rows))]
    assert drop or found["row"].tolist() == rows["title"].tolist()


def test_the_words_are_those_of_the_runs_own_samples(typed: Typed, tmp_path: Path) -> None:
    cfg = typed("data=diamonds", "data.test=0.01", "trainer.max_epochs=1")
    train(cfg)
    data = make(cfg, "data")
    rows = read_table(str(SHIPPED / "diamonds.csv.gz"), "").iloc[data.split["test"]]
    rows.to_csv(tmp_path / "new.csv", index=False)
    samples = pd.read_csv(folder_of(cfg) / "pictures" / "samples.csv", dtype=str)
    found = predictions(folder_of(cfg), tmp_path / "new.csv")
    assert found.columns.tolist() == ["row", "price"], "a number is there once"
    assert found["price"].tolist()[: len(samples)] == samples["predicted"].astype(float).tolist()


def test_ones_own_images_are_decoded_as_those_that_were_trained_on(trained: Trained, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(60):
        file = tmp_path / "pictures" / ("dark", "light")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 160, (20, 14, 3)) + 90 * (number % 2)
        Image.fromarray(noise.astype(np.uint8)).save(file)
    own = ["data=images", f"data.path={tmp_path / 'pictures'}", "task=single_label", "data.size=[12,8]"]
    folder, summary, data = trained(*own, f"data.cache={tmp_path / 'cache'}", "model=linear", "trainer.max_epochs=2")
    assert data.titles
    (tmp_path / "new").mkdir()
    kept = [data.titles[row] for row in data.split["test"]]
    for name in kept:
        shutil.copy(tmp_path / "pictures" / name, tmp_path / "new" / name.replace("/", "-"))
    (tmp_path / "new" / "broken.png").write_text("no image")
    (tmp_path / "pictures").rename(tmp_path / "gone")
    before = sorted((tmp_path / "cache").rglob("*"))
    found = predictions(folder, tmp_path / "new").set_index("row").loc[[name.replace("/", "-") for name in kept]]
    true = np.array(data.outputs)[data.targets("test")]
    assert (found["predicted"] == true).mean() == pytest.approx(summary["test/accuracy"])
    p = found[data.outputs].to_numpy()
    assert metrics.log_loss(true, p / p.sum(1, keepdims=True)) == pytest.approx(summary["test/log_loss"], rel=1e-4)
    assert sorted((tmp_path / "cache").rglob("*")) == before, "predictions are not cached"
    one = predictions(folder, tmp_path / "new" / kept[0].replace("/", "-"))
    assert one["predicted"].tolist() == [found["predicted"].iloc[0]]


def classifier(names: list[str], truth: str = "class") -> Predictor:
    """A trained run of these classes or labels, in which the first is nine times as frequent as the others."""
    task: Task = MultiLabel("multi_label", truth, [], [], "f1", "max")
    if truth == "class":
        task = SingleLabel("single_label", truth, ["prediction"], ["index"], "accuracy", "max")
    data = stand_in({"shape": [2], "outputs": names}, truth)
    priors = [0.9, *[0.1 / (len(names) - 1)] * (len(names) - 1)]
    return Predictor(data, None, task, nn.Identity(), nn.Identity(), priors, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("threshold", "classes", "answer"),
    [
        (None, 2, [0, 0, 1]),
        (0.3, 2, [0, 1, 1]),
        (0.95, 2, [0, 0, 0]),
        ("prior", 2, [0, 1, 1]),
        ("prior", 3, [0, 2, 1]),
        ("tuned", 2, r"threshold=tuned is for labels, and task=single_label has classes: type threshold=prior, or"),
        (0.3, 3, "threshold=0.3 is for labels, and task=single_label has classes"),
    ],
)
def test_a_class_is_predicted_above_a_threshold(
    threshold: str | float | None, classes: int, answer: list[int] | str
) -> None:
    p = torch.tensor([[0.99, 0.01], [0.6, 0.4], [0.1, 0.9]])
    if classes == 3:
        p = torch.tensor([[0.97, 0.02, 0.01], [0.8, 0.05, 0.15], [0.1, 0.6, 0.3]])
    run = classifier(list("abc")[:classes])
    if isinstance(answer, str):
        with pytest.raises(Refused, match=answer):
            predict.decide(run, p.log(), threshold)
    else:
        decided, note = predict.decide(run, p.log(), threshold)
        assert decided.tolist() == answer
        assert (note == "") == (threshold is None)


@pytest.mark.parametrize("typed", ["0", "1", "1.5", "nan", "often", ""])
def test_a_threshold_that_is_none_is_refused(typed: str) -> None:
    with pytest.raises(Refused, match=f"threshold={typed} does not fit: type threshold=0.5"):
        predict.parse_threshold(typed)


@pytest.mark.parametrize(
    ("columns", "wanted", "found"),
    [
        ({"id": "78", "n": "12"}, None, "id"),
        ({"patient_id": "78", "n": "12"}, None, "patient_id"),
        ({"id": "77", "ID": "78"}, None, "ID"),
        ({"paid": "78", "humid": "12", "liquid": "34"}, None, None),
        ({"id": ["1", ""]}, None, None),
        ({"n": "11", "id": "78"}, "n", "n"),
    ],
)
def test_the_column_that_names_rows_is_found_by_its_name(
    columns: dict[str, list[str]], wanted: str | None, found: str | None
) -> None:
    assert find_id(pd.DataFrame({name: list(cells) for name, cells in columns.items()}), wanted) == found


def small(folder: Path) -> Path:
    """A table of numbers, dates and categories with empty cells."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": random.normal(size=80).round(3),
            "day": pd.date_range("2024-01-01", periods=80).strftime("%Y-%m-%d"),
            "colour": random.choice(["red", "green", "blue"], 80),
        }
    )
    frame["price"] = frame["size"] * 3 + (frame["colour"] == "red") * 5
    frame.loc[3, "size"] = np.nan
    frame.to_csv(folder / "own.csv", index=False)
    return folder / "own.csv"


def test_new_cells_are_filled_by_the_training_rows_and_what_they_lack_is_counted(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small(tmp_path)
    folder, _, data = trained("data=csv", f"data.path={file}", "data.target=price", "model=linear")
    (tmp_path / "new.csv").write_text("colour,size,day,more\nred,,2024-03-01,1\nmauve,99,2031-01-01,x\n,0.5,,\n")
    out = tmp_path / "out.csv"
    typed_now = [f"ckpt={folder}/best.ckpt", f"input={tmp_path}/new.csv", f"out={out}"]
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["predict", *typed_now])
    predict.main()
    told = capsys.readouterr()
    assert "size: 1 empty cell filled in" in told.err
    assert "colour: 2 cells of a category that no training row has (an empty cell, mauve)" in told.err
    assert told.out.splitlines() == ["3 predictions", str(out)]
    assert "the model was not trained on more: not used" in told.err
    (tmp_path / "odd.csv").write_text("colour,size,day,\x1b[2J,id\n\x1b[31m,1,,,\x1b]0;a\x07\n")
    monkeypatch.setattr(sys, "argv", ["predict", *typed_now[:1], f"input={tmp_path}/odd.csv"])
    predict.main()
    told = capsys.readouterr()
    assert "category that no training row has ( [31m)" in told.err
    assert not [sign for sign in told.out + told.err if sign < " " and sign != "\n"]
    for given, said in (
        (f"{tmp_path}/odd.csv", "is the input, which would be"),
        ("https://a.org/b.csv", "download it"),
    ):
        with pytest.raises(Refused, match=said):
            predict.parse_request([*typed_now[:1], f"input={given}", f"out={tmp_path}/odd.csv"])
    assert data.encoder is not None
    new = data.encoder.read(tmp_path / "new.csv")
    train_rows = pd.read_csv(file).iloc[data.split["train"]]
    place = {name: number for number, name in enumerate(data.inputs)}
    median, filled = train_rows["size"].median(), train_rows["size"].fillna(train_rows["size"].median())
    scaled = [(value - filled.mean()) / filled.std(ddof=0) for value in (median, 99, 0.5)]
    assert new.x[:, place["size"]] == pytest.approx(scaled, rel=1e-5)
    assert new.x[:, [place[f"colour={name}"] for name in ("blue", "green", "red")]].tolist() == [
        [0, 0, 1],
        [0, 0, 0],
        [0, 0, 0],
    ]
    assert data.x.shape[1] == new.x.shape[1]
    assert isinstance(data.encoder, TableEncoder)
    monkeypatch.setattr("losslab.data.numbers.LARGE", 2)  # rows from which on plain numbers are no text
    (tmp_path / "many.csv").write_text("colour,size,day,price,weight,more\n" + "red,1.5,2024-03-01,7,1,x\n" * 9)
    large = data.encoder.set_aside({"target": "price", "weight": "weight", "drop": []}).read(tmp_path / "many.csv")
    assert large.notes == ["the model was not trained on more: not used"]
    (tmp_path / "one.csv").write_text("colour,size,day\nred,1.5,2024-03-01\n")
    assert (large.x == data.encoder.read(tmp_path / "one.csv").x).all()


def test_input_that_does_not_fit_is_refused_in_a_sentence(
    trained: Trained, tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small(tmp_path)
    folder, _, _ = trained("data=csv", f"data.path={file}", "data.target=price", "model=linear")
    new = tmp_path / "new.csv"

    def refused(sentence: str, *words: str, ckpt: Path = folder / "best.ckpt", source: Path = new) -> None:
        with pytest.raises(Refused, match=sentence) as error:
            predict.predict(*predict.parse_request([f"ckpt={ckpt}", f"input={source}", *words])[:2])
        assert "\n" not in str(error.value)

    refused(r"input=.*new.csv is not there")
    new.write_text("size,price\n1,2\n")
    refused("input=.*new.csv lacks day, colour, which the model was trained on, and has price instead: rename or add")
    new.write_text("size,day\n1,2024-01-01\n")
    refused("input=.*new.csv lacks colour, which the model was trained on: add them")
    new.write_text("size,day,colour\nlarge,2024-01-01,red\n")
    refused(r"column size holds no number in 1 of 1 row \(first: line 2, 'large'\)")
    new.write_text("size,day,colour\n1,5,red\n")
    refused("column day holds no date in 1 of 1 row")
    Image.new("RGB", (9, 9)).save(tmp_path / "poster.png")
    refused("input=.*poster.png is an image: type the path of a table", source=tmp_path / "poster.png")
    refused("input=.* is a folder: type the path of a CSV file", source=tmp_path)
    refused(
        "as there is no folder .*: make it, or type out=out.csv",
        f"out={tmp_path / 'none' / 'out.csv'}",
    )
    refused("inpt is not a setting here; nearest: input", "inpt=1")
    (tmp_path / "alone").mkdir()
    shutil.copy(folder / "best.ckpt", tmp_path / "alone")
    refused("is not beside its run's status.json", ckpt=tmp_path / "alone" / "best.ckpt")
    refused("ckpt=.*none.ckpt is not there", ckpt=folder / "none.ckpt")


def test_what_becomes_of_the_training_data_changes_no_prediction(trained: Trained, tmp_path: Path) -> None:
    file = small(tmp_path)
    words = ["data=csv", f"data.path={file}", "data.target=price", "model=linear", "trainer.max_epochs=2"]
    folder, _, _ = trained(*words)
    rows, new = pd.read_csv(file, dtype=str), tmp_path / "new.csv"
    rows.drop(columns="price").iloc[:20].to_csv(new, index=False)
    before = predictions(folder, new)
    other = rows.assign(size=rows["size"].astype(float) * 1000)  # in other units
    for changed in (rows[["colour", "price", "day", "size"]], pd.concat([rows, other]), other, None):
        file.unlink() if changed is None else changed.to_csv(file, index=False)
        pd.testing.assert_frame_equal(predictions(folder, new), before, check_exact=True)
    rows.assign(more=1)[["more", "colour", "day", "price", "size"]].iloc[:20].to_csv(new, index=False)
    pd.testing.assert_frame_equal(predictions(folder, new), before, check_exact=True)
    rows.assign(id=range(100, 180)).iloc[:20].to_csv(new, index=False)
    assert predictions(folder, new)["id"].tolist() == [str(number) for number in range(100, 120)]
    assert predictions(folder, new, "id=day")["day"].tolist() == rows["day"].tolist()[:20]
    with pytest.raises(Refused, match="id=nr is not a column of the input; "):
        predictions(folder, new, "id=nr")
    with pytest.raises(Refused, match=r"threshold=0.3 is for classes and labels, and task=regression predicts numbers"):
        predictions(folder, new, "threshold=0.3")


def test_a_run_does_not_go_on_with_other_data(trained: Trained, typed: Typed, tmp_path: Path) -> None:
    file = small(tmp_path)
    folder, _, _ = trained("data=csv", f"data.path={file}", "data.target=price", "model=linear", "trainer.max_epochs=1")
    more = [f"ckpt={folder}/last.ckpt", "trainer.max_epochs=2"]
    rows = pd.read_csv(file, dtype=str)
    pd.concat([rows, rows]).to_csv(file, index=False)
    with pytest.raises(Refused, match=r"was trained on other data \(other columns, or other statistics of them\)"):
        train(typed(*more))
    rows.to_csv(file, index=False)
    assert train(typed(*more))["epochs"] == 2


def test_a_checkpoint_of_an_older_losslab_reads_its_data_again_and_says_so(trained: Trained, tmp_path: Path) -> None:
    file = small(tmp_path)
    words = ["data=csv", f"data.path={file}", "data.target=price", "model=linear", "trainer.max_epochs=2"]
    folder, _, _ = trained(*words)
    now = predictions(folder, file)
    saved = torch.load(folder / "best.ckpt", weights_only=True)
    del saved["data"]
    torch.save(saved, folder / "best.ckpt")
    pd.testing.assert_frame_equal(predictions(folder, file), now, check_exact=True)
    notes = predict.predict(*predict.parse_request([f"ckpt={folder}/best.ckpt", f"input={file}"])[:2])[2]
    assert "is of an older losslab and holds no medians" in notes[0]
    file.write_text(file.read_text().replace("1.", "7."))
    with pytest.raises(Refused, match=r"data=csv is no longer what ckpt=.* was trained on \(task.level differs\)"):
        predictions(folder, file)


def test_weights_that_are_not_finite_are_to_blame_and_no_data(trained: Trained, tmp_path: Path) -> None:
    file = small(tmp_path)
    folder, _, _ = trained("data=csv", f"data.path={file}", "data.target=price", "model=linear", "trainer.max_epochs=2")
    whole = torch.load(folder / "best.ckpt", weights_only=True)
    weights = [name for name in whole["state_dict"] if name.startswith("model.")]
    for number, name in enumerate(weights):
        for older in (False, True):
            saved = {key: value for key, value in whole.items() if key != "data" or not older}
            state = {key: value.clone() for key, value in whole["state_dict"].items()}
            state[name].view(-1)[-1] = [torch.nan, torch.inf, -torch.inf][number % 3]
            torch.save({**saved, "state_dict": state}, folder / "best.ckpt")
            with pytest.raises(Refused, match=rf"best.ckpt holds NaN or infinite numbers \({name}\): its training"):
                predictions(folder, file)
    last = torch.load(folder / "last.ckpt", weights_only=True)
    torch.save({**last, "state_dict": state}, folder / "last.ckpt")
    with pytest.raises(Refused, match=r"last.ckpt holds NaN or infinite numbers"):
        train(configure([f"ckpt={folder}/last.ckpt", "trainer.max_epochs=3"]))


def test_text_is_no_image_and_a_test_problem_has_nothing_to_read(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("a,b\n1,2\n")
    folder, _, _ = trained("data=digits", "model=linear", "trainer.max_epochs=1")
    with pytest.raises(Refused, match=r"words.csv is no image that the model takes \(words.csv: cannot identify"):
        predictions(folder, tmp_path / "words.csv")
    (tmp_path / "none").mkdir()
    with pytest.raises(Refused, match=r"none holds no images: type the path of an image"):
        predictions(folder, tmp_path / "none")
    folder, _, _ = trained("experiment=deepobs_quadratic", "trainer.max_epochs=1")
    with pytest.raises(Refused, match="data=quadratic is neither a table nor images"):
        predictions(folder, tmp_path / "words.csv")


def test_the_command_with_options_of_ones_own(tmp_path: Path, trained: Trained) -> None:
    shutil.copy(Path(__file__).parent / "mine.py", tmp_path)
    (tmp_path / "my_conf" / "model").mkdir(parents=True)
    text = "_target_: mine.tiny\n_partial_: true\ntakes: [vector]\n"
    (tmp_path / "my_conf" / "model" / "mine.yaml").write_text(text)
    (tmp_path / "new.csv").write_text("height_cm\n170\n180\n")

    def typed_now(module: str, *words: str) -> "CompletedProcess[str]":
        return ran("-m", f"losslab.{module}", "--config-dir", "my_conf", *words, folder=tmp_path)

    done = typed_now("app", "data=heights", "model=mine", "allow=mine", "logger=false", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    folder = done.stdout.splitlines()[-1]
    words = (f"ckpt={folder}/best.ckpt", "input=new.csv")
    refused = typed_now("predict", *words)
    assert refused.returncode == 1
    assert refused.stderr.startswith("losslab: model._target_=mine.tiny is code that options may not name")
    told = typed_now("predict", *words, "allow=mine")
    assert told.returncode == 0, told.stderr
    assert [line.split()[:2] for line in told.stdout.splitlines()] == [["0", "weight_kg"], ["1", "weight_kg"]]
    assert told.stderr == ""


def test_a_row_is_shown_with_its_marked_labels_and_the_most_probable_others() -> None:
    assert predict.format_top(["a", "b"], [0.2, 0.8], [False, False]) == "b 0.8, a 0.2"
    assert predict.format_top(["a", "b", "c", "d"], [0.4, 0.3, 0.2, 0.1], [True, False, True, True]).startswith(
        "* a 0.4, * c"
    )
