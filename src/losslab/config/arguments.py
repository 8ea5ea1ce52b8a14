"""The words of a command line: settings as `key=value`, how each is typed and read, and Hydra's flags."""

import difflib
import os
import re
import shlex
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, Transformer
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf

from losslab.config.catalogue import CONF, OPTION
from losslab.errors import Refused
from losslab.internals.hydra import hydra_flags

LISTED = {"loss=": "+losses=", "logger=": "+loggers="}  # what stands for `loss=[a,b]` in a multirun: a list for Hydra
SETTING = re.compile(r"--([+~]{0,2}[\w@/.]+)=(.*)", re.DOTALL)
NAMES = {  # settings whose values are names or paths, or lists of them: what is typed is the text
    *("ckpt", "output_dir", "logger.notes", "logger.group", "logger.project", "logger.entity"),
    *("data.path", "data.test_path", "data.root", "data.cache", "data.file", "data.labels", "data.target", "data.drop"),
    *("data.group", "data.time", "data.weight", "data.split", "data.id", "data.none", "data.missing", "data.separator"),
    *("data.types", "data.sheet", "data.delimiter", "data.decimal"),
}
OPEN = {"optimizer": "any", "model": "timm"}  # options that stand for a whole library
BY_NAME = re.compile(r"data\.types|loss\.(parts\.\w+\.)?(pos_)?weight")  # settings that may be `{name: value}`
PLAIN = re.compile(r"(?!(?i:null|true|false|nan|inf)\Z)(?:\.{0,2}/)?[A-Za-z_][\w./-]*|null|", re.ASCII)
QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
PIECE = re.compile(
    rf"\s*((?:{QUOTED.pattern})(?:\s*:[^,]*)?(?=\s*(?:,|\Z))|\[(?:{QUOTED.pattern}|[^\]])*\]"
    rf"|\{{(?:{QUOTED.pattern}|[^}}])*\}}|[^,]*)\s*(?:,|\Z)",
    re.DOTALL,
)
REFERENCE = re.compile(r"\$\{[\w.:,/~\"']+\}")
SWEEP = re.compile(r"(?:choice|range|interval|glob|shuffle|sort|tag)\(.*\)", re.DOTALL)
CALL = re.compile(r"([\w.]+)\((.*)\)")  # such as Adam(1e-3)


def as_overrides(words: Sequence[str]) -> list[str]:
    """Turn settings as W&B's agents type them, `--key=value`, into `key=value`; leave Hydra's flags as they are.

    An agent types Python's values, so `None` becomes `null`.

    Raises:
        Refused: for a word that begins with `--` and is neither.

    >>> as_overrides(["--loss=mae", "--model.hidden=[64, 32]", "--data.seed=None", "seed=1", "--cfg=job", "-m"])
    ['loss=mae', 'model.hidden=[64, 32]', 'data.seed=null', 'seed=1', '--cfg=job', '-m']
    """
    flags = [flag for flag in hydra_flags() if flag.startswith("--")]
    by_agent = "WANDB_SWEEP_ID" in os.environ
    found = []
    for word in words:
        name = word.partition("=")[0]
        if not word.startswith("--") or word == "--" or name in flags:
            key, equals, value = word.partition("=")
            found.append(f"{key}=null" if by_agent and equals and value == "None" else word)
        elif setting := SETTING.fullmatch(word):
            found.append(f"{setting[1]}={'null' if setting[2] == 'None' else setting[2]}")
        elif name == "--" or not any(flag.startswith(name) for flag in flags):  # argparse takes a flag's beginning
            close = difflib.get_close_matches(name, flags, 1, 0.8)
            instead = close[0] if close else f"{name[2:]}=VALUE; --help says more"
            raise Refused(f"{word} is no flag, and no setting without a value: type {instead}")
        else:
            found.append(word)
    return found


def key_of(override: str) -> str:
    """Return the key of `key=value`, without Hydra's + and ~."""
    return override.split("=", 1)[0].lstrip("+~")


def quote_option(override: str) -> str:
    """Quote an option called `true` or `false`, which Hydra would read as a boolean and refuse.

    >>> quote_option("logger=false"), quote_option("trainer.deterministic=false")
    ("logger='false'", 'trainer.deterministic=false')
    """
    group, _, value = override.partition("=")
    return f"{group}='{value}'" if value in ("true", "false") and (CONF / group).is_dir() else override


def quote_names(override: str, multirun: bool = False) -> str:
    """Quote the value of a setting that is a name or a path, where Hydra would read it as something else.

    A value between quotes, `null`, a reference `${...}`, and the brackets and commas of a list keep their meaning.

    Args:
        multirun: whether commas separate the values of several runs.

    >>> quote_names("data.target=price (USD)"), quote_names("data.drop=[2020, #rooms]"), quote_names("seed=2020")
    ("data.target='price (USD)'", "data.drop=['2020','#rooms']", 'seed=2020')
    >>> quote_names("data.types={age: number, size (m): date}")
    "data.types=['age: number','size (m): date']"
    >>> quote_names("loss.weight={cat: 1, big owl: 2.5}"), quote_names("loss.weight=[1,2.5]")
    ("loss.weight=['cat: 1','big owl: 2.5']", 'loss.weight=[1,2.5]')
    >>> quote_names("data.target=a,b"), quote_names("data.target=a,2020", multirun=True)
    ("data.target='a,b'", "data.target=a,'2020'")
    """
    key, equals, value = override.partition("=")
    named = key_of(override) in NAMES
    if BY_NAME.fullmatch(key_of(override)) and value.startswith("{") and value.endswith("}"):
        named, value = True, f"[{value[1:-1]}]"  # Hydra's dictionaries have no key with a bracket or an umlaut
    if not equals or not named or key[0] == "~" or (multirun and SWEEP.fullmatch(value)):
        return override
    return f"{key}={','.join(map(quote_name, split_names(value) if multirun else [value]))}"


def quote_name(value: str) -> str:
    """Quote a name, a path, or each name of a list."""
    if value.startswith("[") and value.endswith("]"):
        return f"[{','.join(quote_name(name) for name in split_names(value[1:-1]))}]"
    if value.startswith("[") or PLAIN.fullmatch(value) or QUOTED.fullmatch(value) or REFERENCE.search(value):
        return value
    return quote_value(str(Path(value).expanduser()) if re.match(r"~[/\\]", value) else value)


def split_names(text: str) -> list[str]:
    """Split names at the commas that stand outside of quotes and brackets.

    >>> split_names("a, 'b, c', it's, f(x)")
    ['a', "'b, c'", "it's", 'f(x)']
    """
    names = [piece.strip() for piece in PIECE.findall(text)]
    return names if text.endswith(",") else names[:-1] or names


def read_values(key: str, text: str) -> list[Any]:
    """Read the values of a setting that `-m` would train a run with each of.

    >>> read_values("seed", "0,1"), read_values("seed", "range(3)"), read_values("loss", "[bce,0.5*dice],mae")
    ([0, 1], [0, 1, 2], ['[bce,0.5*dice]', 'mae'])
    >>> read_values("model.hidden", "[64,32],[8]"), read_values("data.target", "price (USD)")
    ([[64, 32], [8]], ['price (USD)'])
    """
    if SWEEP.fullmatch(text):
        try:
            return list(parse_override(f"{key}={text}").sweep_iterator(transformer=Transformer.identity))
        except HydraException as error:  # such as glob, which needs the folder of the options
            raise Refused(f"{key}={text} cannot be spelled out ({error}): type the values, such as {key}=a,b") from None
    pieces = split_names(text)
    if len(pieces) > 1 and "" in pieces:
        raise Refused(explain_syntax(f"{key}={text}"))
    if key == "loss":
        return pieces
    words = [quote_option(quote_names(f"{key}={piece}")) for piece in pieces]
    values = [parse_override(word).value() for word in words]
    return [value.text if isinstance(value, QuotedString) else value for value in values]


def parse_overrides(words: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Parse overrides as Hydra does; refuse a number that Python does not read."""
    try:
        return OverridesParser.create(config_loader=loader).parse_overrides(list(words))
    except ValueError:
        raise Refused(f"{max(words, key=len)[:60]}... is a number of too many digits: type a shorter one") from None


def parse_override(text: str) -> Override:
    """Parse an override as Hydra does.

    Raises:
        Refused: for what Hydra cannot read.
    """
    try:
        return parse_overrides([text])[0]
    except OverrideParseException:
        raise Refused(explain_syntax(text)) from None


def add_search(override: str) -> str:
    """Let `search` have any key: a loss's range may have any name. Hydra adds keys only where ++ stands before them.

    `yardstick`, the primary metric, is the task's, whichever task that is.

    >>> add_search("search.gamma=0.5"), add_search("search.lr=0.5"), add_search("yardstick=mae")
    ('++search.gamma=0.5', 'search.lr=0.5', 'task.yardstick=mae')
    """
    if override.startswith("yardstick="):
        return f"task.{override}"
    return f"++{override}" if override.startswith("search.") and key_of(override) != "search.lr" else override


def open_keys(words: Sequence[str]) -> list[str]:
    """Spell out `optimizer=any-lamb`, and let options that stand for a whole library have any key, which it checks.

    >>> open_keys(["optimizer=any-lamb", "optimizer.eps=1e-6"])
    ['optimizer=any', '++optimizer.name=lamb', '++optimizer.eps=1e-6']
    >>> open_keys(["optimizer=adam", "optimizer.lr=1"])
    ['optimizer=adam', 'optimizer.lr=1']
    """
    chosen, spelled = [], list[str]()
    for word in words:
        group, _, option = word.partition("=")
        library, _, name = option.partition("-")
        spelled += [f"{group}={library}", f"{group}.name={name}"] if name and OPEN.get(group) == library else [word]
        chosen += [group] if group in OPEN and OPEN[group] in [*option.split(","), library] else []
    return [f"++{word}" if word.partition(".")[0] in chosen and "=" in word else word for word in spelled]


def quote_value(text: str) -> str:
    """Quote a text so that Hydra and OmegaConf read the same text in an override.

    Between quotes a backslash escapes only a quote, or the beginning of an interpolation.

    >>> quote_value("runs/last.ckpt"), quote_value("my runs/a=b.ckpt")
    ('runs/last.ckpt', "'my runs/a=b.ckpt'")
    """
    if re.fullmatch(r"[A-Za-z_./][\w./-]*/[\w./-]*", text, re.ASCII):
        return text
    for special, escaped in ((r"(\\*)'", r"\1\1\\'"), (r"(\\*)\$\{", r"\1\1\\${"), (r"(\\+)\Z", r"\1\1")):
        text = re.sub(special, escaped, text)
    return f"'{text}'"


def to_paste(key: str, value: str | Path) -> str:
    r"""Quote a setting for a shell and for Hydra, whatever characters it holds.

    >>> to_paste("ckpt", "runs/a/last.ckpt"), to_paste("ckpt", "my runs/last.ckpt")
    ('ckpt=runs/a/last.ckpt', '"ckpt=\'my runs/last.ckpt\'"')
    """
    return quote_word(f"{key}={quote_value(str(value))}")


def quote_word(word: str) -> str:
    """Quote a word for a shell, with double quotes around single ones where that does.

    >>> print(quote_word("a b"), quote_word("out='a b'"))
    'a b' "out='a b'"
    """
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!\n') else shlex.quote(word)


def check_spaces(words: Sequence[str]) -> None:
    """Refuse a space beside the = of a setting, one in its place, and one beside a comma.

    >>> check_spaces(["race", "loss", "=", "mse,mae"])
    Traceback (most recent call last):
    losslab.errors.Refused: no space may stand beside =: type loss=mse,mae
    """
    for place, word in enumerate(words):
        before, after = "".join(words[place - 1 : place]), "".join(words[place + 1 : place + 2])
        alone = after and "=" not in after and not after.startswith("-")
        if "=" in before and "=" not in word and (word.startswith(",") or before.endswith(",")):
            rest = takewhile(lambda each: "=" not in each and not each.startswith("-"), words[place:])
            raise Refused(f"no space may stand beside a comma: type {quote_word(''.join([before, *rest]))}")
        if word == "=" and before and after:
            raise Refused(f"no space may stand beside =: type {quote_word(f'{before}={after}')}")
        if word.startswith("=") and before and "=" not in before:
            raise Refused(f"no space may stand beside =: type {quote_word(f'{before}{word}')}")
        if word.endswith("=") and alone and not Path(after).exists():
            raise Refused(f"no space may stand beside =: type {quote_word(f'{word}{after}')}")
        if place == 0 and alone and word.isalpha() and (CONF / word).is_dir():
            raise Refused(f"{word} and {after} have no = between them: type {quote_word(f'{word}={after}')}")


def explain_syntax(override: str) -> str:
    """Say what to type instead of an override that Hydra cannot parse.

    >>> print(explain_syntax("model.name=a(1)"))
    'model.name=a(1)' cannot be read: if it is a text, type "model.name='a(1)'"
    >>> print(explain_syntax("loss==mae"))
    'loss==mae' has a sign too many: type loss=mae
    >>> print(explain_syntax("optimizer=SGD(lr=0.1, momentum=0.9)"))
    'optimizer=SGD(lr=0.1, momentum=0.9)' is a call, as Python has it: type optimizer=sgd optimizer.lr=0.1 \
optimizer.momentum=0.9
    """
    key, equals, value = override.partition("=")
    if not equals:
        return f"'{override}' cannot be read: type key=value, such as optimizer.lr=0.01"
    if (called := CALL.fullmatch(value)) and (CONF / key).is_dir():
        return f"'{override}' is a call, as Python has it: type {spell_call(key, called[1], called[2])}"
    if value != (fewer := value.lstrip("=, ").rstrip(", ")) and fewer:
        return f"'{override}' has a sign too many: type {quote_word(f'{key}={fewer}')}"
    if value.startswith("[") and not value.endswith("]"):
        return f"'{override}' cannot be read: its list does not end; type '{key}=[a,b]'"
    return f"'{override}' cannot be read: if it is a text, type {to_paste(key, value)}"


def spell_call(group: str, name: str, given: str) -> str:
    """Write a call of Python as settings; the first number that an optimizer is given without a name is its `lr`.

    >>> spell_call("optimizer", "torch.optim.Adam", "model.parameters(), 1e-3"), spell_call("loss", "MyLoss", "")
    ('optimizer=adam optimizer.lr=1e-3', 'loss=MyLoss')
    """
    name = name.rpartition(".")[2]
    option = next(
        (path.stem for path in (CONF / group).glob("*.yaml") if path.stem.replace("_", "") == name.lower()), name
    )
    parts = [part.strip() for part in re.split(r",(?![^(\[]*[)\]])", given)]
    named = [part.translate({32: "", 40: "[", 41: "]"}) for part in parts if re.match(r"\w+ *=", part)]
    plain = [part for part in parts if re.fullmatch(r"[-+.\de]+", part)]
    named = [f"lr={plain[0]}", *named] if plain and group == "optimizer" else named
    return " ".join([f"{group}={option}", *(quote_word(f"{group}.{part}") for part in named)])


def read_value(override: str) -> str:
    """Read the value of an override as text: the inverse of `quote_value`.

    >>> read_value("ckpt='my runs/a=b.ckpt'")
    'my runs/a=b.ckpt'
    """
    value = parse_override(override).value()
    return str(OmegaConf.create({"value": value})["value"])


def expand_sum(override: str) -> list[str]:
    """Expand a weighted sum of losses, or several loggers, into the overrides that Hydra composes them from.

    >>> expand_sum("loss=[bce,0.5*dice]")
    ['loss=bce', '+loss@loss.parts.bce=bce', '+loss@loss.parts.dice=dice', '++loss.weights.dice=0.5']
    >>> expand_sum("logger=[tensorboard,wandb]"), expand_sum("loss=mae")
    (['logger=wandb', '+logger@logger.more.tensorboard=tensorboard'], ['loss=mae'])
    """
    if several := re.fullmatch(r"logger=\[(.*)\]", override):
        return expand_loggers(override, [name.strip() for name in several[1].split(",")])
    found = re.fullmatch(r"loss=\[(.*)\]", override)
    if not found:
        return [override]
    parts = [part.strip().rpartition("*") for part in found[1].split(",")]
    names = [name.strip() for _, _, name in parts]
    for name, (factor, _, _) in zip(names, parts, strict=True):
        if not OPTION.fullmatch(name) or not re.fullmatch(r"[\d.e+-]*", factor.strip()):
            raise Refused(f"{override} cannot be read: type losses with factors before them, such as [bce,0.5*dice]")
    if len(set(names)) < len(names):
        raise Refused(f"{override} names a loss twice: type each once, with a factor, such as 'loss=[bce,0.5*dice]'")
    factors = [f"++loss.weights.{name}={factor}" for name, (factor, _, _) in zip(names, parts, strict=True) if factor]
    return [f"loss={names[0]}", *(f"+loss@loss.parts.{name}={name}" for name in names), *factors]


def expand_loggers(override: str, names: list[str]) -> list[str]:
    """Expand several loggers. W&B, if it is among them, keeps its settings at `logger.mode` and so on."""
    names.sort(key=lambda name: name != "wandb")
    if not all(map(OPTION.fullmatch, names)) or len(set(names)) < len(names) or "false" in names:
        raise Refused(f"{override} cannot be read: type loggers, each once, such as 'logger=[wandb,tensorboard]'")
    return [f"logger={names[0]}", *(f"+logger@logger.more.{name}={name}" for name in names[1:])]


def hide_sum(override: str) -> str:
    """Keep Hydra from reading a sum of losses, or several loggers, as a list, until each run of a multirun is composed.

    >>> hide_sum("loss=[bce,0.5*dice]"), show_sum("+losses=[bce,0.5*dice]"), hide_sum("loss=mse,mae")
    ('+losses=[bce,0.5*dice]', 'loss=[bce,0.5*dice]', 'loss=mse,mae')
    """
    return re.sub(r"^(loss=|logger=)(?=.*\[)", lambda found: LISTED[found[1]], override)


def show_sum(override: str) -> str:
    """Undo `hide_sum`."""
    for key, hidden in LISTED.items():
        if override.startswith(hidden):
            return key + override.removeprefix(hidden)
    return override


def as_typed(value: object) -> str:
    """Write a value as it is typed."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def take_folders(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words without `--config-dir FOLDER`, and these folders of the user's own options.

    >>> take_folders(["--config-dir", "/my_conf", "loss=mine"]), take_folders(["--config-dir=/my_conf"])
    ((['loss=mine'], ['/my_conf']), ([], ['/my_conf']))
    """
    left, folders, flags = [], [], ("--config-dir", "-cd")
    coming = iter(words)
    for word in coming:
        flag, equals, folder = word.partition("=")
        if flag not in flags:
            left.append(word)
        elif equals or (folder := next(coming, "")):
            folders.append(folder)
        else:
            raise Refused(f"{word} needs a folder: type {word} FOLDER")
    return left, folders


def search_path(folders: Sequence[str]) -> list[str]:
    """Return the overrides by which Hydra finds options in these folders.

    Raises:
        Refused: for a folder that is not there.

    >>> search_path(["/"]), search_path([])
    (["hydra.searchpath=['/']"], [])
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise Refused(f"--config-dir {folder} is not there: type a folder of options, such as loss/mine.yaml")
    found = [quote_value(str(Path(folder).resolve())) for folder in folders]
    return [f"hydra.searchpath=[{','.join(found)}]"] if found else []
