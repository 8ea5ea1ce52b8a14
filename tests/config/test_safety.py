"""A stranger's checkpoint, options, record or sweep runs no code, and no secret is written down."""

import json
import os
import pickle
import re
from functools import partial
from importlib import import_module
from inspect import isclass, isfunction, signature
from itertools import pairwise
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from sklearn.datasets import load_diabetes
from torch import nn, optim

from losslab import predict
from losslab.compare.cross import under_every_loss
from losslab.config import command_line, targets
from losslab.config.catalogue import CONF
from losslab.config.check import configure
from losslab.config.command_line import check_command_line
from losslab.errors import Refused
from losslab.sweep.driver import sweep
from losslab.sweep.plan import read
from losslab.train import train
from tests.conftest import Command, Typed, folder_of
from tests.loopback import Loopback, environment

SHORT = ("data=diabetes", "model=linear", "trainer.max_epochs=1")
TINY = ("data=heights", "model=linear", "trainer.max_epochs=1")


class Bomb:
    """What it unpickles to is a folder, made on the disk: code was run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_strangers_checkpoint_runs_no_code(typed: Typed, tmp_path: Path, undrawn: None) -> None:
    cfg = typed(*SHORT)
    train(cfg)
    folder, burst = folder_of(cfg), tmp_path / "burst"
    for name in ("best.ckpt", "last.ckpt"):
        whole = torch.load(folder / name, weights_only=True)
        torch.save({**whole, "epoch": Bomb(burst)}, folder / name)
    torch.load(folder / "last.ckpt", weights_only=False)
    assert burst.is_dir(), "the bomb is one"
    burst.rmdir()
    with pytest.raises(Refused, match=r"last.ckpt is not a whole checkpoint \(.*[Ww]eights.only"):
        train(typed(f"ckpt={folder / 'last.ckpt'}"))
    with pytest.raises(Refused, match=r"best.ckpt is not a whole checkpoint"):
        under_every_loss(folder)
    load_diabetes(as_frame=True, scaled=False).frame.to_csv(tmp_path / "new.csv", index=False)
    asked = predict.parse_request([f"ckpt={folder / 'best.ckpt'}", f"input={tmp_path / 'new.csv'}"])[0]
    with pytest.raises(Refused, match=r"best.ckpt is not a whole checkpoint"):
        predict.predict(asked, tmp_path / "new.csv")
    torch.save({"fc.weight": Bomb(burst)}, tmp_path / "weights.pth")
    with pytest.raises(Refused, match=r"model.weights=.* could not be read"):
        train(typed("data=digits", "model=resnet18", f"model.weights={tmp_path / 'weights.pth'}"))
    assert not burst.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.load",
        "torch.hub.load",
        "torch.os.system",
        "torch.utils.cpp_extension.load",
        "pandas.read_pickle",
        "hydra.utils.get_method",
        "losslab.files.write",
        "losslab.train.train",
        "losslab.data.folder.list_problems",
        "pytorch_lightning.LightningModule.load_from_checkpoint",
        "torchvision.datasets.CIFAR10",
        "my_losses.Quartic",
    ],
)
def test_code_outside_of_what_options_are_for_is_refused_unless_the_user_allows_it(target: str) -> None:
    top = target.partition(".")[0]
    for key in (
        "loss._target_",
        "++data.more.0._target_",
        "++trainer.callbacks.mine._target_",
        "+callbacks.x._target_",
    ):
        with pytest.raises(Refused, match=rf"_target_={target} is code that .* if you trust it, type allow={top}$"):
            configure([f"{key}={target}"])
        assert configure([f"{key}={target}", f"allow=[{top}]"]).allow == [top]
    with pytest.raises(Refused, match="is code that options may not name"):
        configure([f"++data.list=[{{_target_: {target}}}]", "allow=other"])


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn.functional.torch.hub.load",
        "torch.optim.adam.torch.load",
        "torch.nn.os.system",
        "losslab.losses.torch.load",
        "losslab.models.Path",
        "losslab.models.math.sqrt",
        "torchvision.models.resnet.partial",
        "torchvision.models._api.load_state_dict_from_url",
        "torchvision.models.resnet.WeightsEnum.get_state_dict",
        "torch.nn.NoSuchLoss",
    ],
)
def test_what_is_reached_through_a_module_that_is_allowed_is_not_its_own(typed: Typed, target: str) -> None:
    cfg = typed(*SHORT, f"loss._target_={target}")
    with pytest.raises(Refused, match=rf"loss._target_={target} is (not there|no class or function of)"):
        train(cfg)


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("callbacks.x", "pytorch_lightning.callbacks.ModelCheckpoint.format_checkpoint_name"),
        ("logger", "pytorch_lightning.loggers.wandb.os.system"),
    ],
)
def test_nor_is_it_in_the_groups_that_may_name_lightnings(key: str, target: str) -> None:
    cfg = OmegaConf.create({"allow": []})
    with pytest.raises(Refused, match=rf"{key}._target_={target} is (not there|no class or function of)"):
        targets.check_targets(cfg, {"_target_": target}, key)
    with pytest.raises(Refused, match="is code that options may not name"):
        configure([f"loss._target_={target}"])


def test_all_losses_and_optimizers_of_torch_may_be_named() -> None:
    cfg = OmegaConf.create({"allow": []})
    losses = [f"torch.nn.{name}" for name in dir(nn) if name.endswith("Loss")]
    optimizers = [f"torch.optim.{name}" for name in dir(optim) if isinstance(getattr(optim, name), type)]
    assert len(losses) > 15
    assert len(optimizers) > 10
    for target in (*losses, *optimizers, "torch.optim.lr_scheduler.StepLR", "torch.nn.functional.l1_loss"):
        targets.check_targets(cfg, {"_target_": target}, "loss")


def nameable() -> list[str]:
    """The classes and functions of losslab that an option of any group may name."""
    names = []
    for place in (place for place in targets.PURE if place.startswith("losslab.")):
        module = import_module(place.removesuffix(".arrays"))  # a function, the others are modules
        below = walk_packages(getattr(module, "__path__", ()), f"{module.__name__}.")
        for each in [module, *(import_module(info.name) for info in below)]:
            named = {f"{each.__name__}.{name}": value for name, value in vars(each).items()}
            own = {name: value for name, value in named.items() if getattr(value, "__module__", "") == each.__name__}
            found = [name for name, value in own.items() if isclass(value) or isfunction(value)]
            names += [name for name in found if targets.is_within(name, [place])]
    return sorted(names)


@pytest.mark.parametrize("name", nameable())
def test_nothing_that_an_option_may_name_takes_a_configuration(name: str) -> None:
    module, _, member = name.rpartition(".")
    assert "cfg" not in signature(getattr(import_module(module), member)).parameters, "it could make any other code"


def test_what_lies_beside_a_checkpoint_can_allow_nothing(typed: Typed, tmp_path: Path, undrawn: None) -> None:
    cfg = typed(*SHORT)
    train(cfg)
    folder = folder_of(cfg)
    status = json.loads((folder / "status.json").read_text())
    theirs = ["loss._target_=os.system", "allow=[os]", "++allow=[os]", "hydra.job.env_set.PYTHONPATH=here"]
    (folder / "status.json").write_text(json.dumps({**status, "overrides": [*status["overrides"], *theirs]}))
    ckpt = f"ckpt={folder / 'best.ckpt'}"
    with pytest.raises(Refused, match=r"loss._target_=os.system is code that options may not name"):
        configure([ckpt])
    (tmp_path / "new.csv").write_text("age\n1\n")
    with pytest.raises(Refused, match=r"loss._target_=os.system is code that options may not name"):
        predict.parse_request([ckpt, f"input={tmp_path / 'new.csv'}"])
    assert "hydra.job.env_set.PYTHONPATH=here" not in configure([ckpt, "allow=os"]).run.overrides
    for broken in ("{}", "no", '{"overrides": 3}'):
        (folder / "status.json").write_text(broken)
        with pytest.raises(Refused, match=r"status.json is no record of a run"):
            configure([ckpt])


def options(folder: Path, text: str, name: str = "experiment/theirs.yaml") -> Path:
    """A folder of options that a stranger wrote."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_options_of_a_stranger_can_allow_nothing(tmp_path: Path) -> None:
    place = f"hydra.searchpath=['{tmp_path}']"
    options(tmp_path, "# @package _global_\nallow: [os]\nloss: {_target_: os.system}\n")
    for typed_now in ([], ["allow=os"], ["allow=[setting:allow]"]):
        with pytest.raises(
            Refused, match=r"theirs.yaml sets allow, which only you may: leave it out there and type allow"
        ):
            configure([place, "experiment=theirs", *typed_now])
    options(tmp_path, "# @package _global_\nloss: {_target_: os.system}\n")
    with pytest.raises(Refused, match=r"loss._target_=os.system is code"):
        configure([place, "experiment=theirs"])
    assert configure([place, "experiment=theirs", "allow=os"]).allow == ["os"], "what the user types counts"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("# @package _global_\nhydra: {callbacks: {x: {_target_: pandas.read_pickle}}}", "experiment/a.yaml"),
        ("# @package _global_\nhydra: {job: {env_set: {PYTHONPATH: here}}}", "experiment/a.yaml"),
        ("# @package _global_\nhydra: {sweeper: {_target_: mine.Sweeper}}", "experiment/a.yaml"),
        ("# @package _global_\nhydra: {sweeper: {params: [allow=os]}}", "experiment/a.yaml"),
        ('# @package _global_\n"hydr\\u0061": {job_logging: {version: 1}}', "experiment/a.yaml"),
        ("# @package hydra.callbacks\nx: {_target_: pandas.read_pickle}", "loss/a.yaml"),
        ("defaults: [{override /hydra/launcher: theirs}]", "experiment/a.yaml"),
        ("defaults: [{loss@hydra.callbacks.x: theirs}]", "experiment/a.yaml"),
        ("defaults: [{'loss@${place}': theirs}]", "experiment/a.yaml"),
        ("defaults: [/../theirs/a]", "experiment/a.yaml"),
        ("setup: [rm -rf /]", "hydra/launcher/a.yaml"),
        ("# @package _name_\ncallbacks: {}", "experiment/hydra.yaml"),
    ],
)
def test_options_that_steer_hydra_are_found(tmp_path: Path, text: str, name: str) -> None:
    assert command_line.find_fault(options(tmp_path, text, name), tmp_path)
    with pytest.raises(Refused, match=re.escape(name)):
        check_command_line(["--config-dir", str(tmp_path)])


@pytest.mark.parametrize("content", [b"a: b: c", b"\xff\xfe", b"a: *a", b"a: &a [*a]", b"a: 1\na: 2", b"- " * 100_000])
def test_an_option_that_is_no_yaml_is_told_as_that_and_not_as_a_danger(tmp_path: Path, content: bytes) -> None:
    options(tmp_path, "", "loss/a.yaml").write_bytes(content)
    with pytest.raises(Refused, match=r"loss/a.yaml cannot be read as YAML \(.*\): correct it") as refused:
        check_command_line(["--config-dir", str(tmp_path)])
    assert "allow=" not in str(refused.value)


def test_our_own_options_and_a_sweep_in_an_experiment_steer_nothing(tmp_path: Path) -> None:
    files = [
        file for file in CONF.rglob("*.yaml") if file.parent != CONF and "hydra" not in str(file.relative_to(CONF))
    ]
    assert len(files) > 80
    assert not [file for file in files if command_line.find_fault(file, CONF)]


def test_an_option_of_aliases_in_aliases_is_refused_at_once_and_anchors_are_not(tmp_path: Path) -> None:
    levels = "".join(f"{b}: &{b} [{', '.join(9 * [f'*{a}'])}]\n" for a, b in pairwise("abcdefghijkl"))
    options(tmp_path, f"a: &a [1, 1, 1, 1]\n{levels}", "loss/a.yaml")
    for look in (
        lambda: check_command_line(["--config-dir", str(tmp_path), "loss=mae"]),
        lambda: configure([f"hydra.searchpath=['{tmp_path}']", "loss=a"]),
    ):
        with pytest.raises(Refused, match=r"loss/a.yaml stands for more than 100,000 values by its YAML aliases"):
            look()
    text = "_target_: torch.nn.L1Loss\ninput: &view prediction\ntarget: dense\nnote: *view\n"
    options(tmp_path, text, "loss/a.yaml")
    assert configure([f"hydra.searchpath=['{tmp_path}']", "loss=a"]).loss.note == "prediction"


@pytest.mark.parametrize("target", ["5", "[a]", "evil", "null", "{a: 1}", "a..b", "'a b'"])
def test_a_target_that_is_no_name_is_told_as_that(target: str) -> None:
    with pytest.raises(
        Refused, match=r"loss._target_.* names no code: type a class or function, such as torch.nn.L1Loss"
    ):
        configure([f"loss._target_={target}"])


@pytest.mark.parametrize("place", ["sweeps", "sweeps/theirs", "wandb"])
def test_a_link_that_was_planted_in_the_output_folder_is_not_followed(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    elsewhere, output = tmp_path / "elsewhere", tmp_path / "outputs"
    elsewhere.mkdir()
    (output / place).parent.mkdir(parents=True)
    (output / place).symlink_to(elsewhere)
    file = tmp_path / "theirs.yaml"
    file.write_text("method: grid\nparameters: {data: {value: heights}, model: {value: linear}, seed: {values: [0]}}\n")
    run = partial(train, typed(*TINY, "logger=wandb")) if place == "wandb" else None
    with pytest.raises(Refused, match=rf"outputs/{place} is a link, which could lead anywhere: remove it, or type"):
        run() if run else sweep(str(file), [f"output_dir={output}"])
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize(
    "overrides", [["--config-dir", "/tmp"], [1, None, {}], "abc", ["loss=mae", "a b"], [""], [["x"]]]
)
def test_a_record_of_no_settings_is_one_sentence_that_names_it(tmp_path: Path, overrides: Any) -> None:
    (tmp_path / "last.ckpt").touch()
    (tmp_path / "status.json").write_text(json.dumps({"overrides": overrides}))
    with pytest.raises(Refused, match=r"status.json (holds overrides that are no settings|is no record of a run)"):
        configure([f"ckpt={tmp_path / 'last.ckpt'}"])


@pytest.mark.parametrize("kind", ["pipe", "large", "broken link", "device"])
def test_an_option_that_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "loss" / "a.yaml"
    file.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "large":
        with file.open("wb") as out:
            out.truncate(2**33)
    else:
        file.symlink_to("/dev/zero" if kind == "device" else tmp_path / "nothing")
    for look in (
        lambda: check_command_line(["--config-dir", str(tmp_path), "loss=a"]),
        lambda: configure([f"hydra.searchpath=['{tmp_path}']", "loss=a"]),
    ):
        with pytest.raises(Refused, match=r"loss/a.yaml is no option's file"):
            look()


def test_hydra_runs_nothing_of_a_strangers_folder(command: Command, tmp_path: Path) -> None:
    bomb, burst = tmp_path / "bomb.pickle", tmp_path / "burst"
    bomb.write_bytes(pickle.dumps(Bomb(burst)))
    callback = f"{{_target_: pandas.read_pickle, filepath_or_buffer: {bomb}}}"
    options(tmp_path / "conf", f"# @package _global_\nhydra: {{callbacks: {{x: {callback}}}}}\n")
    typed_now = ("--config-dir", "conf", "experiment=theirs", "optimizer.lr=-1")  # a mistake, so that no run begins
    done = command(*typed_now)
    assert done.returncode == 1
    assert done.stderr.startswith("losslab: conf/experiment/theirs.yaml sets more of Hydra than hydra.mode")
    assert done.stderr.count("\n") == 1
    assert not burst.exists()
    command(*typed_now, "allow=hydra")
    assert burst.exists(), "the user's word is taken, and it would have run code"


@pytest.mark.parametrize(
    "typed_now",
    [
        "--experimental-rerun a.pickle",
        "--config-path conf",
        "--config-na x",
        "hydra.searchpath=[conf]",
        "-m +logger.key=a",
    ],
)
def test_what_hydra_would_read_before_the_door_is_refused(typed_now: str) -> None:
    with pytest.raises(Refused):
        check_command_line(typed_now.split())


def test_links_and_hidden_folders_hide_nothing(tmp_path: Path) -> None:
    text = "# @package _global_\nhydra: {callbacks: {x: {_target_: pandas.read_pickle}}}"
    for name in ("elsewhere/a.yaml", "hidden/.experiment/a.yaml"):
        options(tmp_path, text, name)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "experiment").symlink_to(tmp_path / "elsewhere")
    for folder in ("linked", "hidden"):
        with pytest.raises(Refused, match="sets more of Hydra"):
            check_command_line(["--config-dir", str(tmp_path / folder)])


def test_a_sweep_file_can_allow_nothing(tmp_path: Path) -> None:
    for line in ("allow: {value: os}", "hydra.launcher.setup: {value: x}", "+allow: {values: [os]}"):
        text = (
            f"method: grid\nparameters: {{loss: {{values: [mse, mae]}}, {line}}}\n"
            "command: ['${env}', '${interpreter}', '${program}', '${args_no_hyphens}']\n"
        )
        (tmp_path / "theirs.yaml").write_text(text)
        with pytest.raises(Refused, match=r"theirs.yaml sets (more of Hydra|\S+, which only you may)"):
            read(str(tmp_path / "theirs.yaml"), {})
    (tmp_path / "theirs.yaml").write_text(
        text.replace(", +allow: {values: [os]}", ", loss._target_: {value: os.system}")
    )
    with pytest.raises(Refused, match=r"loss._target_=os.system is code"):
        read(str(tmp_path / "theirs.yaml"), {})
    assert read(str(tmp_path / "theirs.yaml"), {"allow": "[os]"}).fixed["allow"] == "[os]"


KEY = "5ec2e7" + 34 * "f"


@pytest.mark.parametrize(
    ("typed_now", "sentence"),
    [
        ("+logger.key=abc", "logger.key holds a secret"),
        ("++logger.api_key=abc", "logger.api_key holds a secret"),
        ("+logger.settings.api_key=abc", "logger.settings.api_key holds a secret"),
        ("+data.password=abc", "data.password holds a secret"),
        (f"output_dir={KEY}", "output_dir holds a secret"),
        ("output_dir=${oc.env:WANDB_API_KEY}", "output_dir holds what WANDB_API_KEY holds"),
        ("+data.note=[a,${oc.env:WANDB_API_KEY}]", "data.note.1 holds what WANDB_API_KEY holds"),
        ("+logger.settings.base_url=http://their.server", "logger.settings.base_url would send your key"),
        ("+logger={settings: {api_key: abc}}", "logger.settings.api_key would be written into the run's record"),
    ],
)
def test_a_key_that_is_typed_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, typed_now: str, sentence: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with pytest.raises(Refused, match=sentence) as refused:
        configure([typed_now])
    assert KEY not in str(refused.value)
    assert "abc" not in str(refused.value)


def holds(folder: Path, text: str) -> list[Path]:
    """The files below a folder in whose name or bytes a text stands."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 10
    return [file for file in files if text in str(file) or text.encode() in file.read_bytes()]


def test_the_key_is_nowhere_in_what_a_run_writes_or_says(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    done = command(*TINY)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("outputs/wandb/offline-run-*/*.wandb")), "W&B was there"
    failed = command(*TINY, "optimizer=sgd", "optimizer.lr=1e30", "trainer.max_epochs=3")
    assert failed.returncode == 1
    (reason,) = [json.loads(file.read_text())["reason"] for file in tmp_path.glob("outputs/*sgd*/status.json")]
    assert reason.startswith("Diverged")
    swept = command("-m", f"+logger.key={KEY}", *TINY)
    assert (swept.returncode, swept.stdout) == (1, "")
    assert KEY not in "".join(part for run in (done, failed, swept) for part in (run.stdout, run.stderr))
    assert not holds(tmp_path, KEY)


def test_the_key_that_a_server_was_shown_is_nowhere_either(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loopback() as server:
        for name, value in environment(server, tmp_path).items():
            monkeypatch.setenv(name, value)
        key = os.environ["WANDB_API_KEY"]
        done = command(*TINY, "logger.mode=online")
        assert done.returncode == 0, done.stderr
        assert server.runs, "the run reached the server, with the key"
        assert key not in done.stdout + done.stderr
        assert not holds(tmp_path, key)
