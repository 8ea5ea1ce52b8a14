"""Settings as W&B's agents type them, and sweep files with and without a command."""

import random
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from losslab.config import arguments, check
from losslab.config.arguments import as_overrides, quote_names, read_value
from losslab.config.command_line import check_command_line, rewrite_arguments
from losslab.errors import Refused
from losslab.internals.hydra import parse_command_line
from losslab.sweep.file import load_file, parse_command
from tests.conftest import ROOT, some_now

BESIDE = "no space may stand beside =: type "
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize(
    ("word", "read"),
    [
        *[
            (flag, flag)
            for flag in ("--cfg", "--cfg=job", "--info=all", "--help", "-m", "--multirun", "--multi", "-cd")
        ],
        *[(flag, flag) for flag in ("--config-dir=x", "--package=a=b", "--resolve", "loss=mae", "~augment", "+a.b=1")],
        ("--loss=mae", "loss=mae"),
        ("--optimizer.lr=1e-05", "optimizer.lr=1e-05"),
        ("--model.hidden=[64, 32]", "model.hidden=[64, 32]"),
        ("--loss=[bce,0.5*dice]", "loss=[bce,0.5*dice]"),
        ("--trainer.deterministic=True", "trainer.deterministic=True"),
        ("--data.path=a=b --c=d\n", "data.path=a=b --c=d\n"),
        ("--data.seed=None", "data.seed=null"),
        ("--data.path=", "data.path="),
        ("--+callbacks.ema.decay=0.9", "+callbacks.ema.decay=0.9"),
        ("--hydra/launcher=slurm", "hydra/launcher=slurm"),
        ("data.seed=None", "data.seed=None"),
    ],
)
def test_a_setting_with_hyphens_is_one_and_a_flag_stays_a_flag(word: str, read: str) -> None:
    assert as_overrides([word]) == [read]


@pytest.mark.parametrize("word", ["--lr", "--trainer.deterministic", "--multirum", "--a b=1", "--=3"])
def test_neither_a_flag_nor_a_setting_is_refused(word: str) -> None:
    with pytest.raises(Refused, match="no flag, and no setting"):
        as_overrides([word])


@pytest.mark.parametrize("macro", some_now(["args", "args_no_hyphens"], ["args"]))
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_what_an_agent_types_for_a_shipped_sweep_is_what_its_file_says(
    path: Path, macro: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args  # takes a second

    sweep = load_file(str(path))
    assert (sweep["project"], "command" in sweep) == ("losslab", False)
    assert create_sweep_command()[-1] == "${args}"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep0")
    for end in (0, -1):
        chosen = {
            key: spread["value"] if "value" in spread else (spread.get("values") or [spread["min"], spread["max"]])[end]
            for key, spread in {**sweep["parameters"], "trainer.updates": {"value": None}}.items()
        }
        if "data.path" in chosen:
            continue  # a folder of the user's own
        typed = create_sweep_command_args({"args": {key: {"value": value} for key, value in chosen.items()}})[macro]
        ours = [f"{key}={arguments.as_typed(value)}" for key, value in chosen.items()]
        assert check.configure(as_overrides(typed)) == check.configure(ours)


@pytest.mark.parametrize(
    "command",
    [
        *(["${env}", "${interpreter}", "${program}", f"${{{macro}}}"] for macro in ("args_json", "args_json_file")),
        *(["${env}", "${interpreter}", "${program}", f"${{args_{macro}}}"] for macro in ("no_boolean_flags", "dict")),
        *(["python", "${program}", f"${{args_{macro}}}"] for macro in ("append_hydra", "override_hydra", "no_equals")),
        *(["python", "train.py", "${args}"], ["${program}"], "python train.py", {"a": 1}, 3, True),
    ],
)
def test_the_remedy_for_a_command_that_cannot_work_is_yaml_that_does(command: object) -> None:
    with pytest.raises(Refused) as refused:
        parse_command("a.yaml", {"command": command})
    remedy = re.search(r"type (command: .*\]),", str(refused.value))
    assert remedy
    assert parse_command("a.yaml", yaml.safe_load(remedy[1])) == {}


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ({}, {}),
        ({"command": None}, {}),
        ({"command": ["${env}", "${interpreter}", "${program}", "${args}"]}, {}),
        ({"command": ["python", "${program}", "loss=mae", "--seed=1", "${args}"]}, {"loss": "mae", "seed": "1"}),
    ],
)
def test_a_command_is_w_and_bs_own_or_types_settings_of_all_runs(command: dict[str, object], found: object) -> None:
    assert parse_command("a.yaml", command) == found


def test_a_setting_that_is_typed_twice_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    check_command_line(["loss=mae", "seed=1", "loss=mse", "seed=1"])
    assert capsys.readouterr().err == "losslab: loss=mae and loss=mse are both typed: the last one counts\n"


NAMES = (
    "price (USD)",
    "größe",
    "#rooms",
    "2020",
    "a(1).csv",
    "a b",
    "a=b",
    "a,b",
    "it's",
    "true",
    "1e3",
    ".5",
    "x;y",
    "{a}",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_taken_as_it_is_typed_alone_quoted_and_in_a_list(name: str) -> None:
    csv = ["data=csv", "data.path=a.csv"]
    quoted = arguments.quote_value(name)
    for typed in (name, quoted):
        assert check.configure([*csv, f"data.target={typed}"]).data.target == name
    listed = quoted if "," in name else name
    assert check.configure([*csv, f"data.target=[{listed}, other]"]).data.target == [name, "other"]
    assert quote_names(f"data.target=b,{listed}", multirun=True) == f"data.target=b,{quoted}"


def test_any_text_is_a_name_as_it_is_typed() -> None:
    chance = random.Random(0)
    for key in sorted(arguments.NAMES):
        for _ in range(40):
            text = "".join(chance.choices("ab/ '\"\\$(),=-*!\t`&;ü#%.17{}", k=chance.randint(1, 9)))
            if not arguments.QUOTED.fullmatch(text) and not arguments.REFERENCE.search(text):
                assert read_value(quote_names(f"{key}={text}")) == text


def test_a_path_below_the_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    cfg = check.configure(["data=csv", "data.path=~/a (1).csv", "data.target=y", "output_dir=~/out"])
    assert (cfg.data.path, cfg.output_dir) == (f"{tmp_path}/a (1).csv", f"{tmp_path}/out")


@pytest.mark.parametrize(
    "typed", ["-m loss=mse seed=0,1", "loss=mse -m seed=0,1", "loss=mse seed=0,1 -m", "loss=mse --multirun seed=0,1"]
)
def test_settings_may_stand_on_both_sides_of_m(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["losslab", *typed.split()])
    rewrite_arguments()
    assert parse_command_line(sys.argv[1:]).overrides == ["loss=mse", "seed=0,1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("race loss = mse,mae", f"{BESIDE}loss=mse,mae"),
        ("loss =mae seed=1", f"{BESIDE}loss=mae"),
        ("seed=1 loss= mae", f"{BESIDE}loss=mae"),
        ("loss=mae, mse, huber seed=1", "no space may stand beside a comma: type loss=mae,mse,huber"),
        ("race loss=mae ,mse", "no space may stand beside a comma: type loss=mae,mse"),
        ("loss mae", "loss and mae have no = between them: type loss=mae"),
        ("compare . by= loss", f"{BESIDE}by=loss"),
        ("race --config-dir mine loss=mae", ""),
        ("compare . outputs by=loss", ""),
        ("--data.path= --seed=1", ""),
        ("data.path= seed=1", ""),
        ("sweep file.yaml n=4", ""),
        ("/tmp x", ""),
    ],
)
def test_spaces_beside_an_equals_sign_are_refused(words: str, said: str) -> None:
    found = ""
    try:
        arguments.check_spaces(words.split())
    except Refused as refused:
        found = str(refused)
    assert found == said


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("optimizer=Adam(1e-3)", ["optimizer=adam", "optimizer.lr=1e-3"]),
        ("optimizer=SGD(lr=0.1)", ["optimizer=sgd", "optimizer.lr=0.1"]),
        ("optimizer=torch.optim.AdamW(p, lr=1e-3, betas=(0.8, 0.9))",
         ["optimizer=adamw", "optimizer.lr=1e-3", "optimizer.betas=[0.8,0.9]"]),
        ("optimizer=schedulefreeadamw()", ["optimizer=schedule_free_adamw"]),
        ("loss=Huber(delta=2)", ["loss=huber", "loss.delta=2"]),
        ("model=MLP(hidden=[8, 8])", ["model=mlp", "model.hidden=[8,8]"]),
    ],
)  # fmt: skip
def test_a_call_of_python_is_answered_by_the_settings_to_type(word: str, instead: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        check.configure([word])
    typed = shlex.split(str(refused.value).rpartition(": type ")[2])
    assert typed == instead
    assert check.configure([*typed, "logger=false"])
