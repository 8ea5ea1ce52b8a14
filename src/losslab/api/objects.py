"""Models, losses and optimizers that are objects of Python: each becomes an option of the user's own, a YAML file.

A class or function that can be imported is named in that file, so that any process makes it again. What was defined in
a notebook, and every instance, is known to this process alone; the file says so, and holds its source as a comment.
"""

import copy
import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from losslab.config.catalogue import CONF, find_by_alias, options
from losslab.errors import Refused
from losslab.files import write

HERE = "losslab.api.objects"
OBJECTS: dict[str, Any] = {}  # of this process, by their digests
WIDER = 30.0  # the search range of a learning rate: the default, divided and multiplied by this
LENGTH = 8  # hexadecimal digits of a digest
TYPES = (bool, int, float, str, type(None))


class Options:
    """The options that objects become.

    Args:
        root: the folder for their files, laid out as `conf/`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.allow: list[str] = []  # code that the files name
        self.here: list[str] = []  # options whose objects this process alone knows
        self.notes: list[str] = []

    def name(self, group: str, given: Any, **keys: Any) -> str:
        """Write an object's file, unless it is there; return the name of its option.

        Args:
            group: `model`, `loss` or `optimizer`.
            given: the object.
            keys: further keys of the file.
        """
        digest, title = digest_of(given), title_of(given)
        make = {"model": "make_model", "loss": "make_loss", "optimizer": "make_optimizer"}[group]
        content: dict[str, Any] = {"_target_": f"{HERE}.{make}", "_partial_": group != "loss", **keys, "digest": digest}
        if group == "loss":
            del content["_partial_"]
        path = import_path(given.func if group == "optimizer" and holds_settings(given) else given)
        if path:
            content["function"] = {"_target_": path, "_partial_": True}
            self.allow = [*dict.fromkeys([*self.allow, HERE, path.partition(".")[0]])]
        else:
            content["function"] = None
            self.allow = [*dict.fromkeys([*self.allow, HERE])]
        OBJECTS[digest] = given
        about = f"# {describe(given)}{'' if path else ', which only the process that was given it can make again'}\n"
        text = f"{about}{source_of(given)}{yaml.safe_dump(content, sort_keys=False)}"
        name = self.place(group, title, text)
        if not path:
            self.here.append(f"{group}={name}")
        return name

    def place(self, group: str, title: str, text: str) -> str:
        """Write an option's file under a name that no other content has: `net`, or else `net-2`, `net-3`, ..."""
        taken = {name.lower() for name in options([str(CONF)], group)}
        title = f"my_{title}" if title.lower() in taken else title
        count = 1
        while True:
            name = title if count == 1 else f"{title}-{count}"
            file = self.root / group / f"{name}.yaml"
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                write(file, text)
            if file.read_text(encoding="utf-8") == text:
                return name
            count += 1


def title_of(given: Any) -> str:
    """Return the name of an option for an object: its own, or that of its class.

    >>> title_of(nn.Linear(2, 1)), title_of(functools.partial(nn.Linear, 2)), title_of(lambda p, t: p)
    ('Linear', 'Linear', 'lambda')
    """
    if isinstance(given, functools.partial):
        return title_of(given.func)
    name = getattr(given, "__name__", None) or type(given).__name__
    return re.sub(r"\W+", "_", name).strip("_")[:40] or "object"


def describe(given: Any) -> str:
    """Say what an object is, such as `class Net of mine`."""
    if isinstance(given, functools.partial):
        return f"{describe(given.func)} with settings"
    kind = "class" if inspect.isclass(given) else "function" if inspect.isroutine(given) else "an instance of class"
    named = given if hasattr(given, "__qualname__") else type(given)
    return f"{kind} {named.__qualname__} of {named.__module__}"


def source_of(given: Any) -> str:
    """Return the source of an object as comments; nothing where Python does not know it."""
    named = given.func if isinstance(given, functools.partial) else given
    named = named if hasattr(named, "__qualname__") else type(named)
    if str(named.__module__).partition(".")[0] in ("torch", "torchvision", "timm", "pytorch_optimizer"):
        return ""
    try:
        lines = inspect.getsource(named).splitlines()[:200]
    except (OSError, TypeError):
        return ""
    return "".join(f"#   {line.rstrip()}\n" for line in lines)


def digest_of(given: Any) -> str:
    """Return a hash of an object: of its code and settings, and of an instance's weights."""
    parts = [describe(given)]
    if isinstance(given, functools.partial):
        parts += [digest_of(given.func), repr(given.args), repr(given.keywords)]
    elif isinstance(given, nn.Module):
        parts.append(repr(given))
        for name, values in given.state_dict().items():
            lazy = not isinstance(values, Tensor) or nn.parameter.is_lazy(values)
            data = b"" if lazy else values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            parts.append(f"{name} {hashlib.sha256(data).hexdigest()}")
    code = getattr(given, "__code__", None)
    if code is not None:
        cells = [cell.cell_contents for cell in given.__closure__ or ()]
        parts += [code.co_code.hex(), repr(code.co_consts), repr(code.co_names), repr(given.__defaults__), repr(cells)]
    if title_of(given) != "lambda":  # its source is a whole line, of which other parts may change
        parts.append(source_of(given))
    text = re.sub(r" at 0x[0-9a-f]+", "", "\n".join(parts))
    return f"h{hashlib.sha256(text.encode()).hexdigest()[:LENGTH]}"  # without a letter, 12345e67 would be a number


def import_path(given: Any) -> str | None:
    """Return the dotted name by which any process can import a class or a function; `None` if there is none.

    >>> import_path(nn.L1Loss), import_path(lambda p, t: p), import_path(nn.L1Loss())
    ('torch.nn.modules.loss.L1Loss', None, None)
    """
    module, name = getattr(given, "__module__", None), getattr(given, "__qualname__", None)
    if not module or not name or module == "__main__" or "." in name or "<" in name:
        return None
    try:
        known = getattr(import_module(module), name, None)
    except ImportError:
        return None
    return f"{module}.{name}" if known is given else None


def find(group: str, digest: str, function: Callable[..., Any] | None) -> Any:
    """Return an object: the one that the option's file names, or the one that this process was given.

    Raises:
        Refused: if this process was not given it.
    """
    if function is not None:
        return function.func if isinstance(function, functools.partial) else function
    if digest not in OBJECTS:
        raise Refused(
            f"the {group} was an object in Python, which this process does not know: give it to losslab in this "
            f"session, {group}=, or define it in a module that can be imported"
        )
    return OBJECTS[digest]


def make_model(shape: Sequence[int], outputs: int, digest: str, function: Any = None) -> nn.Module:
    """Make a run's model from what was given: a copy of an instance, or what a class or function returns.

    A class or function of two arguments gets the shape of one input and the number of outputs; others get nothing. It
    is called after seeding, so that its weights follow from the seed.

    Raises:
        Refused: if it makes no module, or one that does not return a score for each output.
    """
    given = find("model", digest, function)
    name = title_of(given)
    if isinstance(given, nn.Module):
        model: Any = copy.deepcopy(given)
    else:
        model = given(tuple(shape), outputs) if count_arguments(given) >= 2 else given()
    if not isinstance(model, nn.Module):
        raise Refused(f"model={name} returned {type(model).__name__}: return a torch.nn.Module")
    check_scores(model, name, shape, outputs)
    return model


def count_arguments(given: Callable[..., Any]) -> int:
    """Count the arguments without defaults that a function or class takes by position."""
    try:
        parameters = inspect.signature(given).parameters.values()
    except (TypeError, ValueError):
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)


def check_scores(model: nn.Module, name: str, shape: Sequence[int], outputs: int) -> None:
    """Refuse a model that does not return one score for each output of each row; lazy layers get their sizes here."""
    trained = model.training
    rows = torch.zeros(2, *shape, device=next((p.device for p in model.parameters()), "cpu"))
    try:
        with torch.no_grad():
            scores = model.eval()(rows)
    except Exception as error:  # the user's own code raises what it likes
        why = " ".join(str(error).split())[:200]
        raise Refused(f"model={name} does not take rows of the shape {tuple(shape)}: {why}") from error
    model.train(trained)
    found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    if found != (2, outputs):
        raise Refused(
            f"model={name} returns {found} for 2 rows, and these data need a score for each output, (2, {outputs}): "
            f"let it end in {outputs}, or give a function of the shape of one input and the number of outputs"
        )


class FunctionLoss(nn.Module):
    """A loss that is a function of two tensors; one that has an argument `reduction` gets it.

    >>> FunctionLoss(nn.functional.l1_loss).reduction
    'mean'
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.reduces = "reduction" in inspect.signature(function).parameters
        if self.reduces:
            self.reduction = "mean"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return what the function returns."""
        return self.function(input, target, **({"reduction": self.reduction} if self.reduces else {}))


def make_loss(digest: str, function: Any = None) -> nn.Module:
    """Make a run's loss from what was given: a copy of a module, what its class makes, or a function of two tensors."""
    given: Any = find("loss", digest, function)
    given = given() if inspect.isclass(given) else given
    return copy.deepcopy(given) if isinstance(given, nn.Module) else FunctionLoss(given)


def give_loss(given: Any, inputs: Sequence[str], targets: Sequence[str], made: Options) -> str:
    """Return the option of a loss that is an object.

    Args:
        given: a class of torch's losses that is an option already, or any callable of two tensors.
        inputs, targets: the views and forms that the task offers. The loss gets raw scores and what torch's own losses
            take: numbers, class indices, or 0 and 1 for each label.
        made: where its file is written.
    """
    known = options([str(CONF)], "loss")
    same = find_by_alias(title_of(given), known) if is_torch(given) else []
    if same and not isinstance(given, nn.Module | functools.partial):
        return same[0]
    if same:  # what torch's own loss reads, whatever the task offers
        view, form = known[same[0]]["input"], known[same[0]]["target"]
    else:
        view = "logits" if "logits" in inputs else "prediction"
        form = next(each for each in ("index", "labels", "dense") if each in targets)
    keys = {"input": view, "target": form, "reduction": "mean", "per": per_row(given, form)}
    return made.name("loss", given, **keys)


def is_torch(given: Any) -> bool:
    """Tell whether an object is a loss of torch's, or its class."""
    named = given if hasattr(given, "__qualname__") else type(given)
    return str(named.__module__).startswith("torch.nn")


def per_row(given: Any, form: str) -> str:
    """Return `row` if a loss has a value for each row, or `batch` if it returns one number only, by calling it.

    Raises:
        Refused: if it cannot be called with two tensors.
    """
    loss: Any = given() if inspect.isclass(given) else given
    if not callable(loss):
        raise Refused(f"loss is {type(loss).__name__}: give the name of an option, or a function of two tensors")
    if getattr(loss, "reduction", None) == "sum":
        raise Refused(f"loss={title_of(given)} sums over the rows, so that it follows the batch size: reduction='mean'")
    if hasattr(loss, "reduction") or (not isinstance(loss, nn.Module) and FunctionLoss(loss).reduces):
        return "row"
    chance = torch.Generator().manual_seed(0)
    for outputs in (3, 1, 2):
        input = torch.rand(4, outputs, generator=chance, requires_grad=True)
        target = torch.tensor([0, 1, 2, 1]) % outputs if form == "index" else (torch.rand(4, outputs) > 0.5).float()
        try:
            value = loss(input, target)
        except Exception:  # the real sizes are tried when the run is built
            continue
        if not isinstance(value, Tensor):
            raise Refused(f"loss={title_of(given)} returned {type(value).__name__}: return a tensor")
        return "row" if value.ndim else "batch"
    return "batch"


def give_optimizer(given: Any, made: Options) -> str:
    """Return the option of an optimizer's class, or of a function of parameters that makes one.

    Its settings are the class's own defaults, and what a `functools.partial` holds.
    """
    ours = inspect.isclass(given) and str(given.__module__).startswith("torch.optim")
    if ours and (same := find_by_alias(given.__name__, options([str(CONF)], "optimizer"))):
        return same[0]
    if not callable(given):
        raise Refused(
            f"optimizer is {type(given).__name__}: give the name of an option, or a class such as torch.optim.Adam"
        )
    defaults = {
        name: list(p.default) if isinstance(p.default, tuple) else p.default
        for name, p in inspect.signature(given).parameters.items()
        if name != "params" and is_setting(p.default)
    }
    keys: dict[str, Any] = dict(defaults)
    if isinstance(rate := keys.get("lr"), float) and rate > 0:
        keys["search"] = {"lr": [rate / WIDER, rate * WIDER]}
    elif "lr" in inspect.signature(given).parameters:
        keys["lr"] = "???"
    return made.name("optimizer", given, **keys)


def holds_settings(given: Any) -> bool:
    """Tell whether an object is a `functools.partial` that only sets what a file can set."""
    return isinstance(given, functools.partial) and not given.args and all(map(is_setting, given.keywords.values()))


def is_setting(value: Any) -> bool:
    """Tell whether a default can stand in a YAML file."""
    return isinstance(value, TYPES) or (
        isinstance(value, tuple | list) and all(isinstance(each, TYPES) for each in value)
    )


def make_optimizer(params: Any, digest: str, function: Any = None, **settings: Any) -> torch.optim.Optimizer:
    """Make a run's optimizer from what was given.

    Raises:
        Refused: if it makes no optimizer.
    """
    given = find("optimizer", digest, function)
    made = given(params, **settings)
    if not isinstance(made, torch.optim.Optimizer):
        raise Refused(f"optimizer={title_of(given)} returned {type(made).__name__}: return a torch.optim.Optimizer")
    return made


def give_model(given: Any, made: Options) -> str:
    """Return the option of a model that is an instance, a class or a function."""
    if isinstance(given, nn.Module):
        made.notes.append(f"{title_of(given)} is an instance: each run trains a copy of it, from the same weights")
    elif not callable(given):
        raise Refused(f"model is {type(given).__name__}: give the name of an option, a torch.nn.Module, or a function")
    return made.name("model", given, takes=["vector", "image"])
