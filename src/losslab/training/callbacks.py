"""The callbacks of a run, as its configuration names them."""

from omegaconf import DictConfig
from pytorch_lightning import Callback

from losslab.config.make import make
from losslab.errors import Refused


def build_callbacks(cfg: DictConfig) -> dict[str, Callback]:
    """Make the callbacks of a run.

    Raises:
        Refused: where one is no callback of Lightning's, or the best checkpoint is not kept, which is tested.
    """
    made = make(cfg, "callbacks")
    named: dict[str, Callback] = made if isinstance(made, dict) else {}
    odd = [type(each).__name__ for each in named.values() if not isinstance(each, Callback)]
    if odd or "best" not in named:
        what = (
            f"has {odd[0]}, which is no Callback of Lightning's" if odd else "lacks best, the checkpoint to be tested"
        )
        raise Refused(
            f"callbacks={cfg.run.choices.callbacks} {what}: begin its file with `defaults: [default]`, and give each "
            "callback a name, such as `mine: {_target_: my_code.Mine}`"
        )
    return named
