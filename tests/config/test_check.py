"""What is typed: what it composes to, and the sentence for each mistake."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from losslab.config import check
from losslab.config.arguments import quote_option
from losslab.config.catalogue import CONF, fits, options
from losslab.config.check import check_jobs, configure
from losslab.config.compose import hydra_ready, load_config
from losslab.config.explain import explain
from losslab.config.flat import flatten
from losslab.config.launch import check_launch, has_gpu
from losslab.config.make import fill_in
from losslab.errors import Refused
from losslab.machine import visible_gpus
from tests.conftest import Typed

GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
OPTIONS = [(group, name) for group in GROUPS for name in options([str(CONF)], group)]
NAMES = {group: sorted(options([str(CONF)], group)) for group in GROUPS if group != "hydra"}
POINT = ["model=point"]
NEEDS = {
    ("data", "arrays"): ["data.path=my.npz"],
    ("optimizer", "any"): ["optimizer.name=adopt"],
    ("model", "timm"): ["model.name=resnet18"],
    ("data", "csv"): ["data.path=my.csv", "data.target=y"],
    ("data", "images"): ["data.path=posters", "task=single_label"],
    ("data", "numbers"): POINT,
    ("data", "quadratic"): POINT,
    ("experiment", "posters"): ["data.path=posters"],
}


def by_omegaconf(cfg: DictConfig) -> dict[str, Any]:
    """Settings by their dotted names, as OmegaConf itself resolves them."""
    cfg = cfg.copy()
    OmegaConf.set_readonly(cfg, False)
    if "run" in cfg:
        cfg.run = {**dict.fromkeys(cfg.run), "choices": cfg.run.choices}
    flat: dict[str, Any] = {}

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                flat[f"{prefix}{key}"] = value

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    walk({key: value for key, value in plain.items() if key != "run"}, "")
    return flat


def test_settings_that_refer_to_others_are_resolved_as_omegaconf_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSLAB_SOME", "where")
    cfg = OmegaConf.create(
        {
            "a": 1,
            "same": "${a}",
            "twice": "${same}",
            "within": "x-${a}-${d.e}-${d.none}",
            "d": {
                **{"e": True, "none": None, "env": "${oc.env:LOSSLAB_SOME}", "near": "${.e}", "far": "${..a}"},
                **{
                    "list": ["${a}", ["${d.e}"], {"of": "${a}"}, "plain", 2],
                    "escaped": "\\${a}",
                    "braces": "{${a}}",
                    "end": "${a}}",
                },
            },
            "all": "${d}",
            "one_of": "${d.list}",
            "run": {"choices": {"loss": "mse"}, "dir": None},
            "chosen": "${run.choices.loss}",
            "later": "${run.dir}",
        }
    )
    assert flatten(cfg) == by_omegaconf(cfg)
    assert flatten(cfg.d) == by_omegaconf(cfg.d)
    assert flatten(cfg)["all.list"] is not flatten(cfg)["d.list"], "or YAML would write one as an alias of the other"


def likely_first(group: str, name: str, others: dict[str, dict[str, Any]]) -> list[str]:
    """What an option may be composed with, first what its file seems to fit: each that does not costs a refusal."""
    option = options([str(CONF)], group)[name]
    if group == "loss":
        return sorted(others, key=lambda other: not fits(others[other]["task"], option))
    return sorted(others, key=lambda other: not set(option.get("takes", ["image"])) & set(others[other]["gives"]))


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes_with_all_that_it_chooses(typed: Typed, group: str, name: str) -> None:
    if name == "timm":
        pytest.importorskip("timm")
    fitting = {"loss": "task", "model": "data", "augment": "data"}.get(group)
    tried: list[str] = []
    for other in likely_first(group, name, options([str(CONF)], fitting)) if fitting else [""]:
        typed_now = [f"{group}={name}", *NEEDS.get((group, name), []), *([f"{fitting}={other}"] if other else [])]
        try:
            needed = [] if group == "model" else NEEDS.get((fitting or "", other), [])
            cfg = typed(*typed_now, *needed)
        except Refused as error:
            tried.append(str(error))
            continue
        assert cfg.run.choices[group].removesuffix("-adopt").removesuffix("-resnet18") == name
        cfg = fill_in(cfg, name="what a run", steps=1)
        assert [*flatten(cfg).items()] == [*by_omegaconf(cfg).items()]
        return
    pytest.fail(f"{group}={name} fits nothing: {tried}")


SIDE_BY_SIDE = [  # every option of every group, many at once: whether they fit each other does not matter here
    [f"{group}='{names[i % len(names)]}'" for group, names in NAMES.items()]
    for i in range(max(len(names) for names in NAMES.values()))
]


@pytest.mark.parametrize(
    "typed_now",
    [
        *(
            pytest.param(
                [*names, "seed=3", "search.lr=0.5", "++optimizer.lr=0.3", "trainer.max_epochs=2"],
                marks=[pytest.mark.system] * (number % 4 > 0),
            )
            for number, names in enumerate(SIDE_BY_SIDE)
        ),
        *([f"experiment={name}", "data.batch_size=7"] for name in NAMES["experiment"]),
        ["loss=mse", "+loss@loss.parts.mse=mse", "+loss@loss.parts.mae=mae", "++loss.weights.mae=0.5"],
        ["data=csv", "data.path=my.csv", "data.target=[a,b]", "task=single_label"],
        ["data=csv", "data.separator=';'"],
        ["optimizer={lr: 1}", "~trainer.devices", "+data.note=new", "~augment", "ckpt=null"],
        ["hydra.job.name=mine", "optimizer.lr=0.3"],
    ],
)
def test_values_set_on_what_was_chosen_make_what_hydra_composes(typed_now: list[str]) -> None:
    with hydra_ready():
        expected = OmegaConf.to_yaml(compose("config", typed_now))
        for _ in range(2):  # the second time, what was chosen is remembered, and nothing that was set on it
            cfg, *_ = load_config(typed_now)
            assert OmegaConf.to_yaml(cfg) == expected
            assert OmegaConf.is_struct(cfg)
            cfg.seed = 99


def test_an_option_that_is_rewritten_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        (tmp_path / "config.yaml").write_text("defaults: [{loss: mine}]")
        for delta in (1, 2):
            (tmp_path / "loss" / "mine.yaml").write_text(f"delta: {delta}")
            assert load_config(["loss=mine"])[0].loss.delta == delta


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_file_opens_with_what_it_is(group: str, name: str) -> None:
    lines = [line for line in (CONF / group / f"{name}.yaml").read_text().splitlines() if "@package" not in line]
    assert lines[0].startswith("# ")
    if group == "experiment":
        head = "\n".join(lines[:4])
        assert "?" in head
        assert f"#   losslab experiment={name}" in head
        assert "Expect" in head


@pytest.mark.parametrize(
    ("typed_now", "task", "data", "model", "loss"),
    [
        ([], "regression", "diamonds", "mlp", "mse"),
        (["task=single_label"], "single_label", "digits", "mlp", "cross_entropy"),
        (["task=multi_label"], "multi_label", "movies", "bag_of_words", "bce"),
        (["data=mnist"], "single_label", "mnist", "mlp", "cross_entropy"),
        (["data=movies", "loss=mse"], "multi_label", "movies", "bag_of_words", "mse"),
        (["task=single_label", "loss=mse", "model=cnn"], "single_label", "digits", "cnn", "mse"),
        (["experiment=mnist_linear", "model=cnn"], "single_label", "mnist", "cnn", "cross_entropy"),
        (["data=csv", "data.path=a", "data.target=b", "task=multi_label"], "multi_label", "csv", "bag_of_words", "bce"),
    ],
)
def test_choosing_a_task_or_data_chooses_the_rest_unless_named(
    typed_now: list[str], task: str, data: str, model: str, loss: str
) -> None:
    choices = configure(typed_now).run.choices
    assert (choices["task"], choices["data"], choices["model"], choices["loss"]) == (task, data, model, loss)


@pytest.mark.parametrize(
    ("typed_now", "sentence"),
    [
        ("loss=maee", "loss=maee is not an option; nearest: mae"),
        ("experiment=height", "experiment=height is not an option; nearest: heights"),
        ("optimizer.lrr=1", "optimizer.lrr is not a setting of optimizer=adam; nearest: optimizer.lr;"),
        ("lr=1", "lr is not a setting; nearest: optimizer.lr, search.lr;"),
        ("model.hidden=a(1).csv", "cannot be read: if it is a text, type \"model.hidden='a\\(1\\).csv'\""),
        ("loss==mae", "'loss==mae' has a sign too many: type loss=mae"),
        ("loss=mae,", "'loss=mae,' has a sign too many: type loss=mae"),
        ("data=csv data.path=${x}.csv data.target=a", "data.path=.* refers to x, which is not a setting: type another"),
        ("data=csv data.path=a data.target=a data.drop=[[a]]", "does not fit: it must be .* list of texts, the names"),
        ("los=mae", "los is not a setting; nearest: loss"),
        ("optimizer.lr", "'optimizer.lr' cannot be read: type key=value, such as optimizer.lr=VALUE"),
        ("optimizer.lr=-1", "optimizer.lr=-1 does not fit: it must be a number above 0"),
        ("optimizer.lr=nan", "optimizer.lr=nan does not fit"),
        ("optimizer.lr=fast", "optimizer.lr=fast does not fit: it must be a number above 0"),
        ("optimizer.betas=[0.9,1]", r"optimizer.betas=\[0.9, 1\] does not fit: it must be a list of 2 numbers"),
        ("data.batch_size=0", "data.batch_size=0 does not fit: it must be a whole number of at least 1, or all"),
        ("data.batch_size=2.5", "data.batch_size=2.5 does not fit"),
        ("data.val=0", "data.val=0 does not fit"),
        ("data.val=0.6 data.test=0.5", "leave no rows to train on"),
        ("data.seed=-1", "data.seed=-1 does not fit: it must be a whole number from 0"),
        ("data.folds=1", "data.folds=1 does not fit: it must be a whole number of at least 2, or null"),
        ("data.fold=-1 data.folds=5", "data.fold=-1 does not fit: it must be a whole number of at least 0"),
        ("data.fold=5 data.folds=5", "data.fold=5 does not fit data.folds=5: it must be a whole number from 0 to 4"),
        ("data.fold=6", "data.fold=6 needs data.folds: type data.folds=7 data.fold=6"),
        ("data.folds=5 data.test=0.3", "data.test=0.3 and data.folds=5 both say .* each fold is 0.2 of the rows"),
        ("data.folds=2 data.val=0.5", "data.val=0.5 and data.folds=2 leave no rows to train on"),
        ("data=mnist data.folds=5", "data.folds is not a setting of data=mnist, as its test rows are fixed: type -m "),
        ("data=heights data.folds=5 data.fold=1", "data.folds is not a setting of .*, or data= one of arrays, csv"),
        ("augment=flip", "augment=flip is for images, but data=diamonds gives vector or tokens: type augment=none"),
        ("trainer.devices=0", "trainer.devices=0 does not fit: it must be .*, auto, -1, or a .*, how many devices"),
        ("resume=sometimes", "resume=sometimes does not fit: it must be auto or never"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0 does not fit"),
        ("trainer.max_epochs=true", "trainer.max_epochs=true does not fit"),
        ("trainer.deterministic=3", "trainer.deterministic=3 does not fit: it must be true or false"),
        ("model.hidden=[0]", r"model.hidden=\[0\] does not fit"),
        ("seed=-1", "seed=-1 does not fit"),
        ("loss=huber loss.delta=0", "loss.delta=0 does not fit: it must be a number above 0"),
        ("loss=quantile loss.levels=[0.5,1]", r"loss.levels=\[0.5, 1\] does not fit: it must be a list of numbers"),
        ("loss=tweedie loss.power=2", "loss.power=2 does not fit: it must be a number above 1 and below 2"),
        ("task=single_label loss.weight=heavy", "loss.weight=heavy does not fit: it must be balanced, null, a list"),
        ("loss=mse loss.reduction=none", "loss.reduction=none does not fit: it must be mean or sum, over outputs"),
        ("loss=mean_squared_error", "loss=mean_squared_error is called mse here: type loss=mse"),
        ("loss=L1Loss", "loss=L1Loss is called mae here: type loss=mae"),
        ("optimizer=SGD", "optimizer=SGD is called sgd or .* here: type optimizer=sgd"),
        ("loss=[mse,bce]", "loss=bce wants logits and labels targets, which task=regression does not offer"),
        ("loss=[mse,0.5*mse]", "names a loss twice"),
        ("loss=[mse,0*mae]", "loss.weights.mae=0 does not fit: it must be a number above 0"),
        ("loss=[mse,huber] loss.parts.huber.delta=0", "loss.parts.huber.delta=0 does not fit"),
        ("loss=[mse,maee]", "loss=maee is not an option; nearest: mae"),
        ("trainer.updates=0", "trainer.updates=0 does not fit"),
        ("trainer.gradient_clip_algorithm=max", "=max does not fit: it must be norm or value"),
        ("scheduler=step trainer.max_epochs=5", "scheduler.step_size=10 epochs is not reached in trainer.max_epochs=5"),
        ("scheduler=cosine_restarts trainer.max_epochs=10", "scheduler.T_0=10"),
        ("scheduler.warmup=1", "scheduler.warmup=1 does not fit"),
        ("optimizer=lbfgs param_groups.decay=weights", "optimizer=lbfgs"),
        ("optimizer=lbfgs param_groups.backbone_lr=0.1", "optimizer=lbfgs"),
        ("optimizer=rprop optimizer.etas=[1.2,0.5]", "optimizer.etas="),
        ("loss=cross_entropy", "does not offer: type loss= one of cosine_similarity, .*, or task= one of single_label"),
        ("task=multi_label loss=nll", "type loss= one of asymmetric, bce, .*, or task= one of single_label"),
        ("task=regression data=digits", "data=digits is for task=single_label, not task=regression"),
        ("data=diamonds model=cnn", "cnn takes image, but data=diamonds gives vector or tokens: type model= one of"),
        ("data=movies model=cnn", "model=cnn takes image, but data=movies gives vector or tokens"),
        ("data=digits model=bag_of_words", "model=bag_of_words takes tokens, but data=digits gives image"),
        ("data=csv", "data=csv needs data.path: type data.path="),
        ("ckpt=none.ckpt", "ckpt=none.ckpt is not there"),
        ("output_dir=/dev/null/x", "output_dir=/dev/null/x cannot be written"),
        ("loss=null", "loss=null names no option of loss: leave it out, or type loss=mse"),
        ("loss=1", "loss=1 is not an option; type one of: asymmetric, .* and [0-9]+ others"),
        ("loss=[bce,x*dice]", "cannot be read: type losses with factors before them"),
        ("loss=MAEE", "loss=MAEE is not an option; nearest: mae"),
        ("optimizer=ADAMM", "optimizer=ADAMM is not an option; nearest: adam"),
        ("=1", "'=1' cannot be read: type key=value"),
        ("@=1", "'@=1' cannot be read: type key=value"),
        ("optimizer..lr=1", "'optimizer..lr=1' cannot be read: type key=value"),
        ("~loss", "~loss removes loss, which every run needs: leave ~loss out"),
        ("~seed", "data.seed refers to seed, which is not a setting: leave out what refers to it or removes it"),
        ("+loss=mae", r"\+loss=mae adds to loss, and one option of it is chosen already: type loss=mae"),
        ("++loss=mae", "adds to loss, and one option of it is chosen already: type loss=mae"),
        ("+optimzer.lr=1", r"\+optimzer.lr=1 adds a setting that nothing reads; nearest: optimizer"),
        ("task=[regression]", r"task=\[regression\] is a list, and a run has one task: type task=regression"),
        ("optimizer=[sgd,adam]", "one optimizer: type optimizer=sgd, or for a run with each -m optimizer=sgd,adam"),
        ("optimizer={lrr:1}", "optimizer.lrr is not a setting of optimizer=adam; nearest: optimizer.lr;"),
        ("optimizer.betas={a:1}", "does not fit what it sets: type a value like that of `--cfg job`"),
        ("foo.bar=1", "foo.bar is not a setting; `--cfg job` prints them all"),
        ("monitor=val/foo", "monitor=val/foo is no metric that is recorded of the validation rows; nearest: val/"),
        ("monitor=train/loss", "monitor=train/loss is no metric .* of the validation rows; nearest: val/loss"),
        ("monitor=mae", "monitor=mae is no metric .*; type monitor=val/mae"),
        ("monitor=", "monitor= is no metric .*; type one of: val/loss, val/mae"),
        ("monitor=val/accuracy", "monitor=val/accuracy is no metric"),
        ("loss=[mse,mae] monitor=val/loss_huber", "monitor=val/loss_huber is no metric .*; nearest: val/loss_m"),
        ("scheduler=plateau scheduler.monitor=val/foo", "scheduler.monitor=val/foo is no metric"),
        ("callbacks=early_stopping callbacks.early_stopping.monitor=rmse", "callbacks.early_stopping.monitor=val/rmse"),
        ("callbacks.best.mode=lower", "callbacks.best.mode=lower does not fit: it must be min or max"),
        ("+trainer.fast_dev_run=true", "fast_dev_run=true does not fit: .* type debug=fast"),
        ("+trainer.limit_train_batches=0", "limit_train_batches=0 does not fit: it must be a whole number"),
        ("+trainer.limit_val_batches=2", "limit_val_batches=2 does not fit: .* type debug=fast"),
        ("+trainer.overfit_batches=1", "overfit_batches=1 does not fit: .* type debug=overfit"),
        ("+trainer.max_steps=3", "max_steps=3 does not fit: .* trainer.updates says how many"),
        ("trainer.precision=foo", "trainer.precision=foo does not fit: it must be 32-true, 64-true"),
        ("trainer.accelerator=foo", "trainer.accelerator=foo does not fit: it must be auto, cpu"),
        ("trainer.strategy=foo", "trainer.strategy=foo does not fit: it must be auto, ddp"),
        ("debug=fas", "debug=fas is not an option; nearest: fast"),
        ("seed=0,1", r"seed=0,1 is several values, .*: type -m seed=0,1 for a run with each$"),
        ("seed=range(3)", r"seed=range\(3\) is several values, and one run has one: type -m 'seed=range\(3\)' "),
        ("model.hidden=64,32", r"-m model.hidden=64,32 for a run with each, or 'model.hidden=\[64,32\]' for a list$"),
        ("optimizer=sgd,adam", "-m optimizer=sgd,adam .*, losslab race optimizer=sgd,adam to find out which to use$"),
        ("loss=mse,mae", r"-m loss=mse,mae .*, losslab race loss=mse,mae .*, or 'loss=\[mse,mae\]' for their weighted"),
        ("loss.weight=[1,2]", "loss.weight is not a setting of loss=mse; no loss of task=regression has it$"),
        ("task=single_label loss=mse loss.weight=1", "of loss=mse; type loss= one of cross_entropy, focal, nll$"),
        ("data=csv data.path=a data.target=b loss.weight=n", "has it; data.weight=COLUMN weighs rows$"),
        ("loss.delta=1", "loss.delta is not a setting of loss=mse; type loss=huber$"),
        ("loss=[mse,huber] loss.delta=1", r"not a setting of loss=mse\+huber; nearest: loss.parts.huber.delta$"),
        ("optimizer.momentum=0.9", "not a setting of optimizer=adam; type optimizer= one of momentum, .*, rmsprop"),
        ("optimizer.learning_rate=1", "is not a setting of optimizer=adam; nearest: optimizer.lr$"),
        ("metric=mae", "metric is not a setting; nearest: task.yardstick"),
        ("callbacks=[default,foo]", "^callbacks=foo is not an option; type one of: default, early_stopping"),
        ("loss=mse+0.5*mae", r"loss=mse\+0.5\*mae is a weighted sum: type 'loss=\[mse,0.5\*mae\]'$"),
        ("learning_rate=1", "learning_rate is not a setting; nearest: optimizer.lr, search.lr"),
        ("callbacks.patience=3", "type callbacks=early_stopping, and callbacks.early_stopping.patience=VALUE$"),
        ("callbacks.early_stopping.patience=3", "type callbacks=early_stopping$"),
        ("data.weights=n", "not a setting of data=diamonds; nearest: data.weight of other options"),
        ("model.kernel=3", "not a setting of model=mlp; type one of: model.dropout, model.hidden"),
        ("+optimizer.lr=1", "optimizer.lr is a setting already: type optimizer.lr=1"),
        ("~optimizer.lrr", "~optimizer.lrr cannot be removed, because it is not there: leave it out"),
        ("~optimizer.eps=3", "~optimizer.eps cannot be removed, because it is 1e-08: leave it out"),
        ("logger.mode=maybe", "logger.mode=maybe does not fit: it must be online, offline, disabled or dryrun"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_in_one_sentence(typed_now: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence) as refused:
        configure(typed_now.split())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("task", ["regression", "single_label", "multi_label"])
def test_every_recorded_metric_can_be_monitored_and_goes_its_own_way(task: str) -> None:
    metrics = {**options([str(CONF)], "task")[task]["task"]["metrics"], "loss": "min"}
    for metric, better in metrics.items():
        cfg = configure([f"task={task}", f"monitor=val/{metric}", "callbacks=early_stopping"])
        assert {cfg.callbacks.best.mode, cfg.callbacks.early_stopping.mode} == {better}
        cfg = configure([f"task={task}", f"monitor=val/{metric}", "callbacks.best.mode=max"])
        assert cfg.callbacks.best.mode == "max", "what is typed counts"


def test_a_seed_of_zero_is_a_seed() -> None:
    assert configure(["seed=0"]).data.seed == 0
    assert configure(["seed=7"]).data.seed == 7


def test_of_many_seeds_the_smallest_and_the_largest_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[str] = []
    monkeypatch.setattr(check, "configure", lambda words: composed.extend(words))
    check_jobs([[f"{key}={seed}"] for key in ("seed", "data.seed") for seed in range(20)])
    assert composed == ["seed=0", "seed=19", "data.seed=0", "data.seed=19"]


@pytest.mark.parametrize(
    "jobs",
    [
        [[f"seed={seed}"] for seed in (1, 2**32, 5, 0)],
        [[f"seed={seed}"] for seed in (1, 2, -1, 4)],
        [[f"seed={seed}"] for seed in (1, "9" * 5000, 3)],
        [[f"data.seed={seed}"] for seed in (1, 2, 1.5, 4)],
        [[f"seed={seed}", f"optimizer.lr={rate}"] for seed, rate in ((1, 0.1), (2, -0.1), (3, 0.1))],
        [[f"seed={seed}", f"loss={loss}"] for seed, loss in ((1, "mse"), (2, "maee"), (3, "mse"))],
    ],
)
def test_a_mistake_among_many_seeds_is_refused_before_the_first_run(jobs: list[list[str]]) -> None:
    with pytest.raises(Refused, match=r"does not fit|maee|too many digits"):
        check_jobs(jobs)


def test_an_option_named_false_can_be_typed() -> None:
    assert quote_option("logger=false") == "logger='false'"
    assert not configure(["logger=false"]).logger


def test_an_unknown_complaint_of_hydras_is_passed_on_in_one_line() -> None:
    assert explain(ValueError("two\nlines")) == "two lines"


def test_the_users_own_options_are_suggested_too(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text(yaml.safe_dump({"input": "logits", "target": "index"}))
    found = options([str(tmp_path), str(CONF)], "loss")
    assert found["mine"] == {"input": "logits", "target": "index"}
    assert "mae" in found


def test_nothing_at_the_door_imports_torch_or_what_needs_it() -> None:
    program = (
        "import sys; from losslab.app import main; from losslab.config.check import configure;"
        "configure(['loss=mae']);"
        "import losslab.data.tables; heavy = {'torch', 'pytorch_lightning', 'wandb', 'matplotlib', 'sklearn'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("typed_now", "sentence"),
    [
        ("trainer=gpu", "trainer=gpu needs an NVIDIA or AMD GPU, and there is none here: type trainer=cpu"),
        ("trainer=ddp", "trainer=ddp needs an NVIDIA or AMD GPU, .* type trainer=ddp_cpu"),
        ("trainer.devices=99", "would start 99 processes, and there are 2 cores: type trainer.devices=2 or fewer"),
        ("trainer=ddp_cpu trainer.devices=99", "would start 99 processes"),
        ("trainer.devices=-1", "trainer.devices=-1 names GPUs, but the CPU is used: leave it out, or type a number"),
        ("trainer.devices=[0,1]", r"trainer.devices=\[0,1\] names GPUs"),
    ],
)
def test_a_gpu_that_is_not_there_is_told_without_torch(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, typed_now: str, sentence: str
) -> None:
    monkeypatch.setattr("losslab.config.launch.has_gpu", lambda: False)
    monkeypatch.setattr("losslab.config.launch.cores", lambda: 2)
    check_launch(typed())
    check_launch(typed("trainer=ddp_cpu"))
    with pytest.raises(Refused, match=sentence):
        check_launch(typed(*typed_now.split()))
    monkeypatch.setattr("losslab.config.launch.has_gpu", lambda: True)
    if "ddp_cpu" not in typed_now:
        check_launch(typed(*typed_now.split()))


def test_a_broken_checkpoint_is_told_without_torch(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_text("half")
    with pytest.raises(Refused, match=r"is not a whole checkpoint \(it is no archive of torch's\): type the path"):
        check_launch(typed(f"ckpt={tmp_path / 'last.ckpt'}"))


def test_several_machines_are_refused_where_nobody_started_their_processes(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Refused, match="each device on each machine: start it by `torchrun` or by `srun`"):
        check_launch(typed("trainer=ddp_cpu", "trainer.num_nodes=2"))


@pytest.mark.parametrize(
    ("words", "metric", "mode"),
    [
        ((), "rmse", "min"),
        (("yardstick=mae",), "mae", "min"),
        (("task.yardstick=r2",), "r2", "max"),
        (("task=single_label", "yardstick=log_loss"), "log_loss", "min"),
        (("data=digits", "yardstick=f1"), "f1", "max"),
        (("yardstick=mae", "task.mode=max"), "mae", "max"),
    ],
)
def test_the_primary_metric_is_a_setting_and_its_mode_follows(words: tuple[str, ...], metric: str, mode: str) -> None:
    cfg = configure(words)
    assert (cfg.task.yardstick, cfg.task.mode, cfg.monitor) == (metric, mode, f"val/{metric}")
    assert cfg.callbacks.best.mode == mode
    assert "metrics" not in cfg.task


@pytest.mark.parametrize("word", ["yardstick=mea", "task.yardstick=accuracy", "yardstick=MAE", "yardstick=null"])
def test_a_primary_metric_that_the_task_lacks_is_refused(word: str) -> None:
    with pytest.raises(Refused, match=r"^yardstick=.* is no metric of task=regression; (nearest|type one of): "):
        configure([word])


@pytest.mark.parametrize("value", ["", "-1", "none", "NoDevFiles", "-1,0", "0,0"])
def test_a_gpu_that_is_hidden_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr("losslab.config.launch.GPUS", (__file__,))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert has_gpu() is (True if sys.platform == "linux" else None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert has_gpu() is False


@pytest.mark.parametrize(
    "value", ["0", "1, 3", "0,-1,1", "0,x", "GPU-5a1b,GPU-77", "MIG-5a1b", "", "-1", "0,0", "03,4", "GPU-a,1"]
)
def test_visible_gpus_are_those_that_torch_counts(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    import torch

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    theirs = torch.cuda._parse_visible_devices()
    assert len(visible_gpus() or []) == len(theirs)
