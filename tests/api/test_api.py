"""The Python API: what a notebook gives and gets, and that it is what the command line does."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import losslab
from losslab import api
from losslab.api.asked import ask
from losslab.api.data import give_data
from losslab.api.objects import Options, digest_of
from losslab.config.check import configure
from losslab.train import train
from tests.conftest import numbers

pytestmark = pytest.mark.usefixtures("undrawn")
CHANCE = np.random.default_rng(0)
TABLE = pd.DataFrame({"a": CHANCE.normal(size=80), "kind": CHANCE.choice(list("xyz"), 80)})
TABLE["price (USD)"] = 3 * TABLE["a"] + (TABLE["kind"] == "x")
QUIET = {"logger": "false", "trainer.enable_progress_bar": False, "trainer.max_epochs": 2}


class Net(nn.Module):
    """A model of the user's own."""

    def __init__(self, shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(shape[0], outputs)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layer(x)
        return scores


class Absolute(nn.L1Loss):
    """A loss that an option of the user's own names."""


def power(input: Tensor, target: Tensor) -> Tensor:
    return (input - target).abs() ** 1.5


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., losslab.Result]:
    """`losslab.run`, short and in the test's folder."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(losslab.run, settings=QUIET)


def test_a_run_from_python_is_the_run_of_the_command(run: Callable[..., losslab.Result]) -> None:
    result = run(TABLE, "price (USD)", loss="mae", seed=1, optimizer__lr=0.01)
    path = result.config["data.path"]
    typed = ["data=csv", f"data.path={path}", "data.target=price (USD)", "loss=mae", "seed=1", "optimizer.lr=0.01"]
    again = train(configure([*typed, *(f"{key}={str(value).lower()}" for key, value in QUIET.items())]))
    assert numbers(again) == numbers(result.summary)
    assert again.folder.name == f"{result.folder.name}-2"
    assert list(result.history["epoch"]) == [0, 1]
    assert Path(path).parent == Path("outputs/python/data")


def test_predictions_are_those_of_the_model_in_the_order_of_the_table(run: Callable[..., losslab.Result]) -> None:
    result = run(TABLE, "price (USD)", model="linear", optimizer="lbfgs", data__batch_size="all")
    new = TABLE.sample(20, random_state=0)
    found = result.predict(new)
    assert list(found.index) == list(new.index)
    np.testing.assert_allclose(found["price (USD)"], new["price (USD)"], atol=0.5)
    assert found.equals(api.predict(result.folder, new))


def test_objects_of_a_module_can_be_repeated_and_objects_of_a_notebook_cannot(
    run: Callable[..., losslab.Result], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(TABLE, "price (USD)", model=Net, loss=power, optimizer=functools.partial(torch.optim.Adagrad, lr=0.1))
    assert (result.config["model"], result.config["loss"], result.config["optimizer.lr"]) == ("Net", "power", 0.1)
    monkeypatch.setattr("losslab.api.objects.OBJECTS", {})  # as in another process
    assert len(result.predict(TABLE)) == 80
    words = [word for word in result.status["overrides"] if not word.startswith("optimizer=")]
    assert numbers(train(configure([*words, "optimizer=adagrad", "optimizer.lr=0.1"]))) == numbers(result.summary)

    assert "known to this process alone" not in capsys.readouterr().out
    local = run(TABLE, "price (USD)", model=Net((4,), 1))
    assert "model=Net-2: known to this process alone" in capsys.readouterr().out
    monkeypatch.setattr("losslab.api.objects.OBJECTS", {})
    with pytest.raises(losslab.Refused, match="which this process does not know"):
        local.predict(TABLE)


def test_an_instance_starts_from_its_weights_and_a_class_from_the_seed(run: Callable[..., losslab.Result]) -> None:
    given, seen = Net((4,), 1), []

    def frozen(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.0)

    for model, seed in ((given, 1), (Net, 0), (Net, 1)):
        result = run(TABLE, "price (USD)", model=model, optimizer=frozen, seed=seed)
        weights = torch.load(result.checkpoint, weights_only=True)["state_dict"]["model.layer.weight"]
        seen.append(weights)
    assert torch.equal(seen[0], given.layer.weight)
    assert not torch.equal(seen[1], seen[2])


def test_a_changed_object_is_another_option_and_takes_no_name_of_ours(tmp_path: Path) -> None:
    made = Options(tmp_path)
    names = [made.name("loss", loss) for loss in (lambda p, t: p - t, lambda p, t: p + t, lambda p, t: p - t)]
    assert names == ["lambda", "lambda-2", "lambda"]

    def mae(input: Tensor, target: Tensor) -> Tensor:
        return input - target

    assert made.name("loss", mae) == "my_mae"
    assert digest_of(nn.Linear(2, 1)) != digest_of(nn.Linear(2, 1))  # other weights


def test_any_callable_of_two_tensors_is_the_loss_that_it_says(run: Callable[..., losslab.Result]) -> None:
    losses: dict[str, list[Any]] = {
        "row": [lambda p, t: (p - t) ** 2, nn.MSELoss(), functools.partial(nn.functional.mse_loss)],
        "batch": [lambda p, t: ((p - t) ** 2).mean()],
    }
    usual = run(TABLE, "price (USD)").summary["val/rmse"]
    for per, loss in [(per, loss) for per, several in losses.items() for loss in several]:
        result = run(TABLE, "price (USD)", loss=loss)
        assert result.config["loss.per"] == per
        assert result.summary["val/rmse"] == pytest.approx(usual, rel=1e-5)


def test_a_loss_of_classes_gets_raw_scores_and_indices(run: Callable[..., losslab.Result]) -> None:
    def own(input: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(input, target)

    classes = TABLE[["a", "price (USD)"]], TABLE["kind"]
    own_run, usual = run(classes, loss=own), run(classes)
    assert own_run.summary["val/log_loss"] == pytest.approx(usual.summary["val/log_loss"], rel=1e-5)
    assert usual.config["task"] == "single_label"
    assert run("digits", loss=torch.nn.L1Loss, model="linear").config["loss"] == "mae"


def test_arrays_and_datasets_of_torch_are_the_same_rows(run: Callable[..., losslab.Result], tmp_path: Path) -> None:
    x, y = CHANCE.normal(size=(60, 3)).astype(np.float32), CHANCE.integers(0, 3, 60)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    one, other = run((x, y)), run(dataset)
    assert one.config["task"] == "single_label"
    assert numbers(one.summary) == numbers(other.summary)
    assert list(one.predict(x[:2]).columns) == ["predicted", "0", "1", "2"]
    pixels = (CHANCE.random((60, 8, 8, 3)) * 255).astype(np.uint8)
    images = run((pixels, y.astype(str)), model="cnn", model__channels=4)
    assert numbers(run((pixels / 255, y.astype(str)), model="cnn", model__channels=4).summary) == numbers(
        images.summary
    )
    assert list(images.predict(pixels[:2])["predicted"])
    several = run((x, np.eye(3, dtype=int)[y]))
    assert (several.config["task"], several.config["model"]) == ("multi_label", "tabular")


class Column:
    """What a Hugging Face `Dataset` offers, which is not installed here."""

    column_names = ("size", "label")

    def __init__(self) -> None:
        self.features = {"size": None, "label": type("ClassLabel", (), {"names": ["cat", "dog"]})()}

    def to_pandas(self) -> pd.DataFrame:
        return pd.DataFrame({"size": [1.0, 2.0], "label": [1, 0]})


def test_a_dataset_of_hugging_face_names_its_classes(tmp_path: Path) -> None:
    found = give_data(Column(), None, None, tmp_path)
    assert pd.read_csv(found["data.path"])["label"].tolist() == ["dog", "cat"]
    assert (found["task"], found["data.target"]) == ("single_label", "label")


class Pictures:
    """The same with a column of images."""

    def __init__(self) -> None:
        self.features = {"image": type("Image", (), {})(), "label": type("ClassLabel", (), {"names": ["cat", "dog"]})()}
        self.column_names = ["image", "label"]
        self.pixels = (CHANCE.random((30, 8, 8, 3)) * 255).astype(np.uint8)

    def __len__(self) -> int:
        return 30

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"image": self.pixels[place], "label": place % 2}

    def to_pandas(self) -> pd.DataFrame:
        raise AssertionError


def test_images_of_hugging_face_are_trained_on_and_predicted(run: Callable[..., losslab.Result]) -> None:
    pictures = Pictures()
    result = run(pictures, model="cnn", model__channels=4)
    assert {*result.predict(pictures)["predicted"]} <= {"cat", "dog"}


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "an option": (lambda: losslab.run("digitz"), "data='digitz' is not an option; nearest: digits"),
    "a file": (lambda: losslab.run("no.csv", "y"), "data__path='no.csv' is not there"),
    "no target": (lambda: losslab.run(TABLE), "target names the column to predict"),
    "a target": (lambda: losslab.run(TABLE, "prize"), "target=prize is not a column; nearest: price"),
    "data": (lambda: losslab.run(3), "data is int: give a table"),
    "rows": (lambda: losslab.run((np.ones((3, 2)), np.ones(4))), "3 rows of x and 4 of y"),
    "a shape": (lambda: losslab.run((np.ones(3), np.ones(3))), r"x has the shape \(3,\)"),
    "pixels": (lambda: losslab.run((np.full((3, 4, 4), -2.0), np.ones(3))), "numbers from -2 to -2"),
    "a setting": (lambda: losslab.run(TABLE, "a", settings=QUIET, los="mae"), "los is not a setting"),
    "a value": (lambda: losslab.run(TABLE, "a", optimizer__lr=object()), "which cannot be typed"),
    "settings": (lambda: losslab.run(TABLE, "a", settings="x"), "settings is str: give a dictionary"),  # type: ignore[arg-type]
    "a reference": (lambda: losslab.run(TABLE.rename(columns={"a": "${a}"}), "${a}"), r"has \$\{ in its name"),
    "two targets": (lambda: losslab.run((np.ones((9, 2)), np.ones(9)), "y"), "these data hold their targets"),
    "columns": (lambda: losslab.run(pd.concat([TABLE, TABLE], axis=1), "a"), "several columns a: rename"),
    "dimensions": (lambda: losslab.run((np.ones((9, 2)), np.ones((9, 2, 2)))), r"y has the shape \(9, 2, 2\)"),
    "no values": (lambda: losslab.sweep(TABLE, "a", loss=[]), "loss lists nothing"),
    "a name": (lambda: losslab.sweep(TABLE, "a", seed=[0], name="../x"), "name=../x does not fit"),
    "another task": (
        lambda: losslab.run(TABLE, "price (USD)", loss=nn.CrossEntropyLoss(), settings=QUIET),
        "loss='CrossEntropyLoss' wants logits and index targets, which task='regression' does not offer",
    ),
    "a run": (lambda: losslab.run(TABLE, "a", n=2), "n is not a setting"),
    "twice": (lambda: losslab.run(TABLE, "a", seed=1, settings={"data": "csv"}), "data is given twice"),
    "a loss": (lambda: losslab.run(TABLE, "a", loss=3), "loss is int"),
    "a model": (lambda: losslab.run(TABLE, "a", model=3), "model is int"),
    "an optimizer": (lambda: losslab.run(TABLE, "a", optimizer=3), "optimizer is int"),
    "scores": (
        lambda: losslab.run(TABLE, "price (USD)", model=nn.Linear(4, 2), settings=QUIET),
        r"model='Linear' returns \(2, 2\) for 2 rows",
    ),
    "inputs": (
        lambda: losslab.run(TABLE, "price (USD)", model=nn.Linear(9, 1), settings=QUIET),
        r"does not take rows of the shape \(4,\)",
    ),
    "a sum": (lambda: losslab.run(TABLE, "a", loss=nn.MSELoss(reduction="sum")), "sums over the rows"),
    "processes": (lambda: losslab.sweep(TABLE, "a", loss=[lambda p, t: p - t], n=2), "n=2 starts other processes"),
    "a comparison": (lambda: losslab.compare(3), "int cannot be compared"),
    "a folder": (lambda: api.predict("nowhere", TABLE), "run='nowhere' is not there: give a result"),
    "no rows": (lambda: api.predict("nowhere"), r"missing a required argument: 'data'; call predict\(run, data\)"),  # type: ignore[call-arg]
    "new rows": (lambda: api.predict(".", {"a": [1]}), "is not there|is not beside"),
    "no folder": (lambda: losslab.run(TABLE, "a", output_dir=__file__), "output_dir=.* cannot be written"),
    "numbers for names": (
        lambda: losslab.run(pd.DataFrame(np.ones((9, 2)), columns=[0.5, 1.5]), 1.5),
        "numbers for names",
    ),
    "no row": (lambda: losslab.run(TABLE[:0], "a"), "data holds no rows"),
    "no row of arrays": (lambda: losslab.run((np.ones((0, 2)), np.ones(0))), "data holds no rows"),
    "NaN": (
        lambda: losslab.run((np.ones((80, 2)), np.where(np.arange(80) == 7, np.nan, 1.0)), settings=QUIET),
        r"column y holds no value in 1 of 80 rows .first: row 7, 'nan'.: correct them, or leave those rows out",
    ),
    "no run": (lambda: api.predict(None, TABLE), "run is NoneType: give a result"),  # type: ignore[arg-type]
    "no name": (lambda: losslab.run(TABLE, "a", "mae"), r"too many positional arguments; call run\(data, target\)"),  # type: ignore[call-arg]
    "columns by name": (
        lambda: losslab.run({"a": [1]}, "a"),
        r"data is dict: give pandas.DataFrame\(data\) with target",
    ),
    "a list": (lambda: losslab.run([[1, 2]], "a"), r"data is list: give pandas.DataFrame\(data, columns=\[...\]\)"),
    "two optimizers": (
        lambda: losslab.run(TABLE, "a", optimizer=["sgd", "adam"]),
        r"a run has one: losslab.sweep\(..., optimizer=\['sgd', 'adam'\]\), or losslab.race",
    ),
    "two losses": (lambda: losslab.run(TABLE, "a", loss="mse,mae"), r"losslab.sweep\(..., loss=\['mse', 'mae'\]\), or"),
    "seeds": (lambda: losslab.run(TABLE, "a", seed=range(3)), r"a run has one: losslab.sweep\(..., seed=range"),  # type: ignore[arg-type]
    "a word": (lambda: losslab.run(TABLE, "a", lr=1), "lr is not a setting; nearest: optimizer__lr, search__lr"),
    "a weight": (lambda: losslab.run(TABLE, "a", loss__weight="kind"), "task='regression' has it; data__weight=COLUMN"),
    "text": (
        lambda: losslab.run(TABLE, "price (USD)", data__weight="kind"),
        "data__weight='kind' holds no number .'[xyz]'.: name a column",
    ),
    "a race": (lambda: losslab.race(TABLE, "a", loss=["mae"]), "one candidate is no race"),
    "another order": (
        lambda: losslab.run((TABLE[["kind"]], TABLE["a"][::-1])),
        r"x and y have the same rows in another order: give y.loc\[x.index\], or y.to_numpy\(\)",
    ),
    "one label": (
        lambda: losslab.run(TABLE.assign(b=TABLE["a"] > 0), ["b"], task="multi_label"),
        "data__target='b' says yes or no, which is one label: type task='single_label'",
    ),
    "huge": (lambda: losslab.run(TABLE.assign(a=1e30), "a"), "holds numbers beyond 1e.15 .*: write them in a larger"),
    "nothing to train": (
        lambda: losslab.run(TABLE, "a", model=nn.Linear(4, 1).requires_grad_(False), settings=QUIET),
        "the model has no weight that is trained: set requires_grad of some to True",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mistake, sentence = MISTAKES[name]
    with pytest.raises(losslab.Refused, match=sentence) as caught:
        mistake()
    assert "\n" not in str(caught.value)
    assert caught.value._render_traceback_() == [f"losslab: {caught.value}"]  # what a notebook shows
    assert not list(tmp_path.glob("outputs/*/status.json"))


GIVEN: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "numbers beside a table": ((TABLE[["a"]], TABLE["price (USD)"]), None, {"data.target": "price (USD)"}),
    "an array beside it": ((TABLE[["a"]], CHANCE.normal(size=80)), None, {"data.target": "target"}),
    "a list beside it": ((TABLE[["a"]], [0.5] * 80), None, {"data.target": "target"}),
    "classes beside it": ((TABLE[["a"]], np.arange(80) % 3), None, {"data.target": "target", "task": "single_label"}),
    "text beside it": ((TABLE[["a"]], TABLE["kind"]), None, {"data.target": "kind", "task": "single_label"}),
    "two columns beside it": ((TABLE[["a"]], np.ones((80, 2))), None, {"data.target": ["target0", "target1"]}),
    "labels beside it": (
        (TABLE[["a"]], np.eye(80, 2, dtype=int)), None, {"data.target": ["target0", "target1"], "task": "multi_label"}
    ),
    "a number for a name": (TABLE.rename(columns={"a": 3}), 3, {"data.target": "3"}),
    "a pair for a name": (pd.concat({"p": TABLE}, axis=1), ("p", "a"), {"data.target": "('p', 'a')"}),
    "several names": (TABLE, ("a", "price (USD)"), {"data.target": ["a", "price (USD)"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_targets_are_what_they_are_beside_a_table(name: str, tmp_path: Path) -> None:
    data, target, expected = GIVEN[name]
    found = give_data(data, target, None, tmp_path)
    assert {key: value for key, value in found.items() if key in ("data.target", "task")} == expected
    written = pd.read_csv(found["data.path"])
    assert len(written) == 80


def test_durations_and_periods_are_numbers_and_dates(tmp_path: Path) -> None:
    long = pd.to_timedelta(np.arange(80) * 12, unit="h")
    frame = TABLE.assign(long=long, month=pd.period_range("2020-01", periods=80, freq="M"))
    written = pd.read_csv(give_data(frame, "a", None, tmp_path)["data.path"])
    assert written["long"].tolist() == [0.5 * day for day in range(80)]
    assert written["month"].iloc[1] == "2020-02-01"


def test_a_list_of_losses_is_told_to_be_a_sum(tmp_path: Path) -> None:
    for losses, notes in ((["mse", "mae"], 1), (["mse"], 0), ("mse", 0)):
        asked = ask("heights", None, {"loss": losses}, {}, tmp_path)
        assert len(asked.notes) == notes
    assert not ask("heights", None, {"loss": ["mse", "mae"]}, {}, tmp_path, several=True).notes


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), 3])
def test_a_number_of_numpys_is_a_number(seed: Any, tmp_path: Path) -> None:
    more = {"optimizer__lr": np.float32(0.5), "data__seed": (number for number in [7])}
    asked = ask(TABLE, "a", {"seed": seed}, more, tmp_path)
    assert asked.settings | {"seed": 3, "optimizer.lr": 0.5, "data.seed": [7]} == asked.settings
    assert type(asked.settings["seed"]) is int


def test_a_lambda_is_the_same_whatever_else_is_written_in_its_line_and_no_digest_is_a_number() -> None:
    one, other = {"loss": lambda p, t: p - t, "budget": 1}, {"loss": lambda p, t: p - t}
    assert digest_of(one["loss"]) == digest_of(other["loss"]) != digest_of(lambda p, t: p + t)
    assert all(not digest_of(functools.partial(int, each))[0].isdigit() for each in range(100))


def test_labels_beside_an_array_get_a_model_that_takes_it(tmp_path: Path) -> None:
    asked = ask((np.ones((30, 3)), np.eye(30, 2, dtype=int)), None, {"task": "multi_label"}, {}, tmp_path)
    assert configure(asked.words()).run.choices.model == "tabular"


def test_a_sweep_in_this_process_goes_on_and_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def own(input: Tensor, target: Tensor) -> Tensor:
        return (input - target).abs()

    ask = functools.partial(
        losslab.sweep, TABLE, "price (USD)", model="linear", loss=[own, "mse"], seed=range(2), settings=QUIET
    )
    found = ask()
    assert found.table["loss"].value_counts().to_dict() == {"own": 2, "mse": 2}
    began = [run.status["started"] for run in found.runs]
    assert [run.status["started"] for run in ask().runs] == began  # nothing is done twice
    monkeypatch.setattr("losslab.page.plots.draw_plots", lambda *_: [])  # eight seconds
    compared = found.compare()
    assert set(compared.table["loss"]) == {"own", "mse"}
    assert "<iframe srcdoc=" in compared._repr_html_()
    fixed = losslab.sweep(TABLE, "price (USD)", loss="mae", seed=[0], n=0, settings={**QUIET, "model.hidden": [[4, 3]]})
    assert fixed.runs[0].config["model.hidden"] == [4, 3]


def test_ctrl_c_in_a_sweep_of_this_process_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    calls = 0

    def interrupted(input: Tensor, target: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 6:
            raise KeyboardInterrupt
        return (input - target).abs()

    with pytest.raises(KeyboardInterrupt):
        losslab.sweep(TABLE, "price (USD)", loss=[interrupted, "mse"], seed=range(3), name="cut", settings=QUIET)
    states = [run.status["status"] for run in losslab.Sweep(Path("outputs/sweeps/cut")).runs]
    assert states == ["interrupted"]
    assert not list(Path("outputs/sweeps/cut/jobs").glob("*.json"))


def test_importing_losslab_takes_no_time() -> None:
    import subprocess
    import sys

    code = "import losslab, sys; print(losslab.__version__, 'torch' in sys.modules, 'hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == ["False", "False"]


def test_a_module_of_a_commands_name_can_be_called() -> None:
    import losslab.compare.runs  # sets the module in the place of what was there

    for name in ("sweep", "race", "compare", "predict"):
        assert callable(getattr(losslab, name))
        assert "settings" in str(inspect.signature(getattr(losslab, name))) or name == "predict"
    with pytest.raises(AttributeError, match="no attribute 'swep'"):
        losslab.swep  # type: ignore[attr-defined]  # noqa: B018


def test_options_of_your_own_are_found_beside_objects(run: Callable[..., losslab.Result]) -> None:
    folder = Path("my_conf/loss")
    folder.mkdir(parents=True)
    text = "_target_: tests.api.test_api.Absolute\ninput: prediction\ntarget: dense\n"
    (folder / "mine.yaml").write_text(text)
    result = run(TABLE, "price (USD)", model=Net, loss="mine", config_dir="my_conf", allow="tests")
    assert (result.config["loss"], result.config["model"]) == ("mine", "Net")
    assert len(result.predict(TABLE)) == 80
