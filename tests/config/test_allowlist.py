"""Every setting by every source with hostile values is refused or harmless, and nothing typed is a traceback."""

import copy
import json
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from losslab.config import allowlist, targets
from losslab.config.arguments import as_typed
from losslab.config.catalogue import CONF, options
from losslab.config.check import configure
from losslab.config.command_line import check_command_line
from losslab.config.compose import hydra_ready
from losslab.config.flat import flatten
from losslab.config.recorded import check_dropped, check_overrides_in
from losslab.errors import Refused
from losslab.internals.hydra import is_group
from losslab.sweep.plan import read
from tests.conftest import some_now

GROUPS = ("augment", "callbacks", "data", "logger", "loss", "model", "optimizer", "scheduler", "task", "trainer")
# What decides where a run writes, what leaves the machine, what code runs, and what Hydra does. A key that a later
# version adds to the catalogue is in neither list, and the first test below fails until somebody has decided.
ONLY_TYPED = {
    *("allow", "ckpt", "output_dir", "data.cache", "data.root", "callbacks.*.dirpath"),
    *("callbacks.*._target_", "trainer._target_"),
    *(f"logger.{key}" for key in ("_target_", "id", "mode", "name", "project", "save_dir", "version", "entity")),
    *(f"logger.{key}" for key in ("log_model", "experiment_name", "run_name", "folder")),
    *(f"logger.{key}" for key in ("tracking_uri", "artifact_location", "server_url", "default_hp_metric")),
}
LATER = {  # what is refused for another reason once a file may set it
    "ckpt": ["ckpt=null"],
    "logger.mode": ["logger.mode=offline"],
}
HOSTILE = [
    *(
        "../../outside",
        "/etc/passwd",
        "${oc.env:PGPASSWORD}",
        "${oc.env:HOME}${oc.env:DATABASE_URL}",
        "${hydra:run.dir}",
    ),
    *("${oc.decode:${oc.env:AWS_SESSION_TOKEN}}", "${oc.${x}:PATH}", "http://127.0.0.1:9", "online", "os.system", -1),
    *({"_target_": "os.system", "command": "id"}, ["${oc.env:PGPASSWORD}"], {"x": "${oc.env:PGPASSWORD}"}, None, True),
]


def every_key() -> dict[str, Any]:
    """Every setting of every option of the catalogue, and its usual value."""
    found = dict(flatten(configure([])))
    for group in GROUPS:
        for option in options([str(CONF)], group).values():
            inner = option if group != "task" else option["task"]
            found |= {f"{group}.{key}": value for key, value in inner.items() if key != "defaults"}
    return {below: leaf for key, value in found.items() for below, leaf in targets.find_values(value, key)}


KEYS = every_key()


def listed(key: str) -> str:
    """The key as the lists have it."""
    parts = key.split(".")
    return ".".join(["callbacks", "*", *parts[2:]]) if parts[0] == "callbacks" and len(parts) > 2 else key


def test_each_setting_of_the_catalogue_is_on_one_list_and_a_new_one_is_refused() -> None:
    assert len(KEYS) > 150
    for key, value in KEYS.items():
        top = listed(key)
        if key.split(".")[0] in allowlist.ARGUMENTS or any(c.isdigit() for c in top.split(".")[-1]):
            continue
        usual = "x" if top in ONLY_TYPED or "${" in str(value) else value
        assert allowlist.may_set(key, usual) != (top in ONLY_TYPED), f"{key}: decide whether a file may set it"
    for key in (
        "new",
        "data.new",
        "trainer.new",
        "logger.new",
        "callbacks.best.new",
        "param_groups.new",
        "run.x",
        "hydra.x",
    ):
        assert not allowlist.may_set(key, 1)


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Secrets in the environment, a canary outside, and a server that must hear nothing; call it to see that it did."""
    for name in ("PGPASSWORD", "DATABASE_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "hunter2-hunter2")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    canary = tmp_path / "canary"
    canary.write_text("alive")
    host = "127.0.0.77" if sys.platform == "linux" else "127.0.0.1"  # clients of other tests know ports of 127.0.0.1
    with socket.create_server((host, 0)) as server:
        server.setblocking(False)
        address = f"http://{host}:{server.getsockname()[1]}"
        for name in ("WANDB_BASE_URL", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, address)

        def check() -> None:
            with pytest.raises(BlockingIOError):
                server.accept()
            assert canary.read_text() == "alive"
            assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("here", "theirs")) == ["canary"]

        yield check


def check_experiment(where: str, key: str, value: Any) -> None:
    nested: Any = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    allowlist.check_file(where, nested, [], is_group)


def check_parameters(where: str, key: str, value: Any) -> None:
    params = {f"++{key}": as_typed(value) if isinstance(value, str | int | None) else value}
    allowlist.check_file(where, {"hydra": {"mode": "MULTIRUN", "sweeper": {"params": params}}}, [], is_group)


def check_sweep_file(where: str, key: str, value: Any) -> None:
    check_overrides_in(where, [f"++{key}={as_typed(value)}"], [])


SOURCES = [check_experiment, check_parameters, check_sweep_file]


def may_not(key: str, value: Any) -> bool:
    """Whether a file must be refused this: said here without the lists of the program."""
    steers = key.split(".")[0] in ("hydra", "run", "allow", "new") or listed(key) in ONLY_TYPED
    leaves = listed(key) == "callbacks.*.filename" and "/" in str(value)
    return steers or leaves or "${" in str(value)


@pytest.mark.parametrize("source", SOURCES)
def test_no_file_sets_what_only_the_user_may(source: Callable[[str, str, Any], None]) -> None:
    keys = sorted(
        {listed(key).replace("*", "best") for key in KEYS} | {"hydra.job.env_set.PATH", "run.dir", "new", "a.b"}
    )
    taken = 0
    with hydra_ready():
        for key in keys:
            for value in HOSTILE:
                try:
                    source("theirs.yaml", key, value)
                except Refused:
                    continue
                assert not may_not(key, value), f"{key}={value} was taken from {source.__name__}"
                taken += 1
    assert taken > 300, "what is harmless is taken"


END_TO_END = sorted({key.replace("*", "best") for key in ONLY_TYPED} | {"run.dir", "new"})


@pytest.mark.parametrize("key", some_now(END_TO_END, ["allow", "callbacks.best.dirpath", "ckpt", "new", "run.dir"]))
def test_nor_does_one_that_takes_part_in_a_run(key: str, tmp_path: Path, surroundings: Callable[[], None]) -> None:
    """The same from end to end, by each source, with a value that would have a meaning."""
    folder = tmp_path / "theirs"
    value = str(tmp_path / "outside")
    (folder / "experiment").mkdir(parents=True)
    nested: Any = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    (folder / "experiment" / "e.yaml").write_text("# @package _global_\n" + yaml.safe_dump(nested))
    sweep = {"method": "grid", "parameters": {f"++{key}": {"value": value}, "loss": {"values": ["mse", "mae"]}}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**sweep, "command": ["${program}", "${args_no_hyphens}"]}))
    (folder / "last.ckpt").write_bytes(b"")
    (folder / "status.json").write_text(json.dumps({"overrides": [f"++{key}={value}"]}))
    with pytest.raises(Refused, match=rf"e.yaml sets {key}, which only you may"):
        configure([f"hydra.searchpath=['{folder}']", "experiment=e"])
    with pytest.raises(Refused, match=rf"e.yaml sets {key}, which only you may"):
        check_command_line(["--config-dir", str(folder), "experiment=e"])
    with pytest.raises(Refused, match=rf"sweep.yaml sets {key}, which only you may"):
        read(str(folder / "sweep.yaml"), {"allow": "[os,my_losses]"})
    try:
        kept = flatten(configure([f"ckpt={folder / 'last.ckpt'}"]))
    except Refused as error:
        kept = {"said": str(error).replace(value, "")}
    assert value not in [kept[other] for other in kept if other != "ckpt"]
    if key.split(".")[0] not in ("run", "allow") and not key.endswith("_target_"):
        assert configure(
            [f"hydra.searchpath=['{folder}']", "experiment=e", f"allow=setting:{key}", *LATER.get(key, [])]
        )
    surroundings()


@pytest.mark.parametrize(
    "override",
    [
        *(
            "loss=./../../conf/loss/mae",
            "loss=../loss/mae",
            "loss=/etc/passwd",
            "+experiment=../../x",
            "loss=[mae,../x]",
        ),
        *("augment=./../../inner", "+loss@hydra.callbacks.x=mae", "hydra/launcher=stacked", "hydra.mode=RUN"),
        *("+loss@allow=mae", "run.dir=x", "~run", "allow.0=evil", "++allow.os=1", "++allow=[os]", "+allow={a: os}"),
        *(
            "+run.x=${oc.env:PGPASSWORD}",
            "data.path=${oc.env:PGPASSWORD}",
            "output_dir=x",
            "ckpt=x",
            "logger.mode=online",
        ),
        *("logger={mode: online}", "++logger.settings={http_proxy: x}", "trainer.logger=true", "+trainer.plugins=[x]"),
    ],
)
def test_overrides_in_a_file_choose_options_by_name_and_set_no_more_than_is_listed(
    override: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter2-hunter2")
    with pytest.raises(Refused) as refused:
        check_overrides_in("theirs.yaml", [override], ["os"])
    assert "hunter2" not in str(refused.value)
    if "/" in override.partition("=")[2] or "run" in override:  # neither is it taken when it is typed
        with pytest.raises(Refused):
            configure([override])


@pytest.mark.parametrize(
    "name", ["loss/linked", "loss/out", "experiment/sub/e", "loss/" + 200 * "x", "loss/..", "loss/a b"]
)
def test_an_option_is_a_file_of_its_group(name: str, tmp_path: Path) -> None:
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "secret.yaml").write_text("_target_: torch.nn.L1Loss\ninput: prediction\ntarget: dense\n")
    (tmp_path / "conf" / "loss" / "linked.yaml").symlink_to(tmp_path / "secret.yaml")
    (tmp_path / "conf" / "loss" / "out.yaml").symlink_to("/etc/hostname")
    group, _, option = name.partition("/")
    with pytest.raises(Refused):
        configure([f"hydra.searchpath=['{tmp_path / 'conf'}']", f"{group}={option}"])


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("data: {_target_: my_own.waves, cache: /elsewhere, number: 3}", True),
        ("callbacks: {mine: {_target_: my_own.Callback, dirpath: /elsewhere}}", True),
        ("data: {_target_: losslab.data.dataset.arrays, read: {_target_: my_own.waves, _partial_: true}}", True),
        ("data: {_target_: losslab.data.dataset.arrays, read: {_target_: losslab.data.folder.images}}", False),
        ("_target_: my_own.Any\noutput_dir: /elsewhere", False),
        ("_target_: my_own.Any\nlogger: {project: theirs}", False),
        ("logger: {_target_: my_own.Logger, project: theirs}", False),
        ("trainer: {_target_: my_own.Trainer, default_root_dir: /elsewhere}", False),
        ("callbacks: {_target_: my_own.Any, best: {dirpath: /elsewhere}}", False),
        ("callbacks: {best: {inner: {_target_: my_own.Any}, dirpath: /elsewhere}}", False),
        ("param_groups: {_target_: my_own.Any, new: 3}", False),
        ("defaults: [first, _self_]\ndata: {_target_: losslab.data.images.torchvision_images}", False),
        (
            "defaults: [_self_, first]\ndata: {_target_: losslab.data.images.torchvision_images, root: /elsewhere}",
            False,
        ),
        ("data: {x: {_target_: losslab.data.images.torchvision_images, dataset: MNIST, root: elsewhere}}", False),
        ("data: {x: {_target_: losslab.data.folder.images, cache: elsewhere}}", False),
    ],
)
def test_code_that_is_allowed_lends_its_freedom_to_no_other_setting(text: str, fits: bool, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "e.yaml").write_text(f"# @package _global_\n{text}\n")
    first = "# @package _global_\ndata: {_target_: my_own.waves, cache: /elsewhere}\n"
    (tmp_path / "experiment" / "first.yaml").write_text(first)
    typed = [f"hydra.searchpath=['{tmp_path}']", "experiment=e", "allow=my_own"]
    if fits:
        assert configure(typed).allow == ["my_own"]
    else:
        with pytest.raises(Refused, match=r"which only you may|is code that options may not name"):
            configure(typed)


@pytest.mark.parametrize("links", some_now([3, 9], [3]))
def test_a_folder_of_links_in_circles_is_read_or_refused(tmp_path: Path, links: int) -> None:
    (tmp_path / "loss").mkdir()
    for number in range(9):
        (tmp_path / f"folder{number}").mkdir()
    for number in range(links):
        (tmp_path / "loss" / f"link{number}").symlink_to(tmp_path)
        for other in range(links):
            (tmp_path / f"folder{number}" / f"link{other}").symlink_to(tmp_path / f"folder{other}")
    (tmp_path / "loss" / "mine.yaml").write_text("_target_: torch.nn.L1Loss\ninput: prediction\ntarget: dense\n")
    if links > 3:
        with pytest.raises(Refused, match="holds more than 2,000 folders, links counted"):
            check_command_line(["--config-dir", str(tmp_path), "loss=mine"])
    else:
        assert configure([f"hydra.searchpath=['{tmp_path}']", "loss=mine"]).loss.input == "prediction"
        check_command_line(["--config-dir", str(tmp_path), "loss=mine"])


def test_what_is_typed_for_a_run_of_ones_own_is_asked_for_again_where_a_record_may_not_say_it(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"")
    typed = ["loss=mae", "logger.project=mine", "data.seed=3"]
    (tmp_path / "status.json").write_text(json.dumps({"overrides": typed}))
    cfg = configure([f"ckpt={tmp_path / 'last.ckpt'}"])
    assert (cfg.run.choices.loss, cfg.data.seed, cfg.run.dropped) == ("mae", 3, ["logger.project=mine"])
    with pytest.raises(Refused, match=r"begun with logger.project=mine, .*: type logger.project=mine too$"):
        check_dropped(cfg)
    check_dropped(configure([f"ckpt={tmp_path / 'last.ckpt'}", "logger.project=mine"]))
    check_dropped(configure([f"ckpt={tmp_path / 'last.ckpt'}", "logger=false"]))


PIECES = st.one_of(
    st.sampled_from(sorted(KEYS)),
    st.sampled_from([*GROUPS, "experiment", "hydra", "hydra/launcher", "run", "search", "loss@loss.parts.x", "ckpt"]),
    st.text(max_size=8),
)
VALUES = st.one_of(
    st.sampled_from([name for group in GROUPS for name in options([str(CONF)], group)]),
    st.sampled_from(
        [
            *(
                "",
                "null",
                "1",
                "-1",
                "0",
                "1e400",
                "nan",
                "true",
                "a,b",
                "[mae]",
                "[mae,bce]",
                "[bce,x*dice]",
                "{a: 1}",
            ),
            *(
                "{}",
                "[]",
                "${seed}",
                "${oc.env:NOPE}",
                "${nope}",
                "${a",
                "${hydra:run}",
                "'",
                "a b",
                "a=b",
                "(a)",
                "../x",
            ),
            *("range(1,3)", "glob(*)", "choice(a,b)", "[[[1]]]", "[null]", "999999999999999999999", "???", "x" * 3000),
        ]
    ),
    st.text(max_size=12),
)
OVERRIDES = st.builds(
    "{}{}{}{}".format, st.sampled_from(["", "", "+", "++", "~"]), PIECES, st.sampled_from("=" * 9 + " "), VALUES
)


@settings(max_examples=400)
@given(st.lists(OVERRIDES, min_size=1, max_size=3))
def test_whatever_is_typed_is_a_configuration_or_one_sentence(overrides: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="provider=")
        said = ""
        try:
            configure(overrides)
        except Refused as error:
            said = str(error)
        assert "\n" not in said


YAML = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 99), st.floats(), st.sampled_from(["mae", "mse", "hyperband", "two"]),
        st.text(max_size=6),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["value", "values", "min", "max", "q", "distribution"]), inner, max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip
WHOLE: dict[str, Any] = {
    "method": "random",
    "run_cap": 4,
    "metric": {"name": "val/rmse", "goal": "minimize"},
    "early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 3, "max_iter": 27, "s": 2},
    "parameters": {
        "loss": {"values": ["mse", "mae"]},
        "optimizer.lr": {"min": 0.001, "max": 0.1},
        "seed": {"value": 1},
    },
    "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
}
PLACES = [
    *((key,) for key in WHOLE),
    *(("metric", key) for key in ("name", "goal")),
    *(("early_terminate", key) for key in ("type", "min_iter", "max_iter", "s", "eta")),
    *(("parameters", key) for key in ("loss", "optimizer.lr", "seed", "task", "data", "allow", "logger.mode")),
    *(("parameters", "optimizer.lr", key) for key in ("min", "max", "q", "distribution", "values")),
]


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(PLACES), YAML), min_size=1, max_size=2))
def test_whatever_stands_in_a_sweep_file_is_a_plan_or_one_sentence(changes: list[tuple[tuple[str, ...], Any]]) -> None:
    sweep = copy.deepcopy(WHOLE)
    for place, value in changes:
        node: Any = sweep
        for key in place[:-1]:
            node = node[key] if isinstance(node.get(key), dict) else node.setdefault(key, {}) or {}
            if not isinstance(node, dict):
                break
        if isinstance(node, dict):
            node[place[-1]] = value
    with TemporaryDirectory() as folder:
        file = Path(folder, "sweep.yaml")
        file.write_text(yaml.safe_dump(sweep))
        said = ""
        try:
            read(str(file), {})
        except Refused as error:
            said = str(error)
        assert "\n" not in said


@pytest.mark.parametrize(
    "text",
    [
        b"metric: val/rmse",
        b"a: &a [*a]\nparameters: *a",
        b"parameters: {a: &x {values: [*x]}}",
        b"\xff\xfe\x00",
        b"parameters: " + b"[" * 20_000,
        b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
        b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\nparameters: {loss: {values: [*d,*d,*d,*d,*d,*d,*d,*d]}}\nmethod: grid\n",
        b"",
        b"- 1",
        b"? [a]\n: 1",
        b"!!python/object/apply:os.system [id]",
        b"parameters: {1: {value: 2}, null: {value: 3}}",
    ],
)
def test_a_sweep_file_that_is_none_is_one_sentence(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_bytes(text)
    with pytest.raises(Refused) as refused:
        read(str(tmp_path / "theirs.yaml"), {})
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000
