"""What `logger.log_model=true` uploads: the best checkpoint with its record, and the user's own code."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig

from losslab.config.catalogue import CONF
from losslab.config.credentials import find_secrets
from losslab.config.targets import allowed_packages
from losslab.record.client import client

RECORD = ("best.ckpt", "config.yaml", "status.json", "summary.json")  # what `losslab predict ckpt=` needs
LARGEST = 1 << 20  # bytes of a file that is code
INSTALLED = ("site-packages", "dist-packages")  # the record has their versions


def log(folder: Path, run: Any, code: Mapping[str, Path]) -> None:
    """Log a run's model and, where there are any, the files of the user's own code, by their names there.

    The model's files are not copied: offline, `wandb sync` reads them where they are.
    """
    model = client().Artifact(safe(f"model-{run.id}"), type="model")
    for name in RECORD:
        if (folder / name).is_file():
            model.add_file(str(folder / name), name=name, policy="immutable")
    run.log_artifact(model, aliases=["latest", "best"])
    if code:
        with TemporaryDirectory() as copies:
            for name, file in code.items():
                copy = Path(copies, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
            run.log_code(copies, name=safe(f"source-{run.project}"), include_fn=lambda _: True)


def safe(name: str) -> str:
    """Replace the characters that W&B does not take in a name."""
    return re.sub(r"[^\w.-]+", "-", name)


def own_code(cfg: DictConfig) -> dict[str, Path]:
    """Find the files of allowed packages and of `--config-dir`, by their names in the artifact.

    Links, large files, and files that hold a secret of the environment are left out, and so is what pip installed.
    """
    places = [place for name in allowed_packages(cfg.get("allow", [])) for place in of_package(name)]
    places += [Path(folder) for folder in cfg.run.catalogue or [] if Path(folder) != CONF]
    files = [(place.resolve().parent, file.resolve()) for place in places for file in below(place)]
    return {str(file.relative_to(above)): file for above, file in files if is_shown(file)}


def of_package(name: str) -> list[Path]:
    """Find the file or folder of a package or module."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    return [Path(place) for place in spec.submodule_search_locations or [spec.origin or ""]]


def below(place: Path) -> Iterator[Path]:
    """List a file, or the code and options below a folder."""
    if place.is_file():
        yield place
    for folder, inner, names in os.walk(place):
        inner[:] = [name for name in inner if not name.startswith((".", "__"))]
        files = (Path(folder, name) for name in names if not name.startswith("."))
        yield from (file for file in files if not file.is_symlink())


def is_shown(file: Path) -> bool:
    """Tell whether a file is code or an option, and may be uploaded."""
    if file.suffix not in (".py", ".yaml") or not file.is_file() or file.stat().st_size > LARGEST:
        return False
    if any(part in INSTALLED for part in file.parts):
        return False
    text = file.read_bytes()
    return not any(secret.encode() in text for secret in find_secrets().values())
