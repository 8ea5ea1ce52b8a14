"""Write a trained model as ONNX, with a description of its inputs and a card.

    losslab export ckpt=outputs/…/best.ckpt out=model.onnx

writes three files:

    model.onnx    the model with its last step: inputs in, probabilities or
                  numbers in the data's units out; it also normalises images
    model.json    what an input is: columns, types, medians, scales, categories,
                  or the size of images; names of outputs
    model.md      a model card: data, split, test metrics with intervals, loss,
                  optimizer, limits; and how to use it

It needs the packages onnx and onnxscript: pip install 'losslab[onnx]'. If ONNX
Runtime is installed, it must agree with the model to 1e-5, or nothing is
written. For options of your own, type --config-dir FOLDER and allow=PACKAGE.
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from losslab.config.words import command_words
from losslab.errors import Refused
from losslab.files import check_out, write, write_json
from losslab.predict import compose_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from losslab.restore import Predictor

KEYS = ("ckpt", "out", "allow")
AGREE = 1e-5  # of the largest output, or of 1 where that is less
INPUT, OUTPUT = "x", "y"


def parse_request(words: Sequence[str]) -> tuple[DictConfig, Path]:
    """Compose the checkpoint's run, and return it with the file to write, all without torch.

    Raises:
        Refused: for anything that could have been mistyped, and without the packages that it needs.
    """
    cfg, typed = compose_checkpoint(words, KEYS, "an export")
    out = check_out(typed.get("out", "model.onnx"), ".onnx")
    if lacking := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise Refused(f"an export needs {' and '.join(lacking)}: type pip install 'losslab[onnx]'")
    return cfg, out


def export(cfg: DictConfig, out: Path) -> list[str]:
    """Write the model, what its inputs are, and its card; return notes.

    Raises:
        Refused: where the model cannot be exported, or ONNX Runtime does not agree with it.
    """
    from losslab.model_card import write_card
    from losslab.restore import load_predictor

    run = load_predictor(cfg)
    inputs = example_inputs(run, cfg.model.takes)
    content = export_graph(run, inputs)
    note = check_agreement(run, content, inputs)
    sidecar, card = out.with_suffix(".json"), out.with_suffix(".md")
    write(out, content)
    write_json(sidecar, describe_model(run, inputs, out.name))
    write(card, write_card(cfg, run, Path(cfg.ckpt).parent, out.name))
    return [*run.notes, note]


def example_inputs(run: "Predictor", takes: Sequence[str]) -> "Tensor":
    """Draw three inputs of the kind that the model takes: vectors, tokens or images of bytes."""
    import torch

    draws, shape = torch.Generator().manual_seed(0), run.data.shape
    if len(shape) == 3:
        return torch.randint(0, 256, (3, *shape), generator=draws, dtype=torch.uint8)
    if "tokens" in takes and "vector" not in takes:
        return torch.randint(1, shape[0], (3, 8), generator=draws)
    return torch.randn(3, *shape, generator=draws)


def make_whole(run: "Predictor") -> Any:
    """Return the model with what follows it: from inputs to what a prediction lists, `(N, columns)`."""
    import torch
    from torch import nn

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.task = run.model, run.task

        def forward(self, x: "Tensor") -> "Tensor":
            return torch.stack([*run.task.columns(run.data, run.loss, self.model(x)).values()], 1)

    return Whole().eval()


def export_graph(run: "Predictor", inputs: "Tensor") -> bytes:
    """Return the model as ONNX, for any number of rows, and of words.

    Raises:
        Refused: where torch cannot export it.
    """
    import torch

    shapes = {0: torch.export.Dim.DYNAMIC} | ({1: torch.export.Dim.DYNAMIC} if inputs.dtype == torch.int64 else {})
    with TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        try:
            torch.onnx.export(
                make_whole(run),
                (inputs,),
                file,
                dynamo=True,
                verbose=False,
                external_data=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=(shapes,),
            )
        except Exception as error:  # torch raises many kinds
            why = " ".join(str(error).split())[:200]
            raise Refused(f"this model cannot be exported to ONNX ({why}): type the checkpoint of another") from error
        return file.read_bytes()


def check_agreement(run: "Predictor", content: bytes, inputs: "Tensor") -> str:
    """Compare ONNX Runtime with the model on inputs of another number of rows; return a note of it.

    Raises:
        Refused: if they differ.
    """
    import torch

    if find_spec("onnxruntime") is None:
        return "onnxruntime is not installed, so the file was not compared with the model: pip install onnxruntime"
    import onnxruntime

    rows = inputs[[0, 1, 2, 1, 0]]
    with torch.inference_mode():
        ours = make_whole(run)(rows)
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        theirs = torch.from_numpy(session.run([OUTPUT], {INPUT: rows.numpy()})[0])
    except Exception as error:  # ONNX Runtime raises many kinds
        why = " ".join(str(error).split())[:200]
        raise Refused(f"ONNX Runtime cannot run this model ({why}): type the checkpoint of another") from error
    gap = float(((ours - theirs).abs() / ours.abs().amax().clamp(min=1)).max())
    if not gap <= AGREE:
        raise Refused(f"ONNX Runtime differs from this model by {gap:.1g}: type the checkpoint of another")
    return f"ONNX Runtime agrees with the model to {max(gap, 1e-9):.1g} of the largest output"


def describe_model(run: "Predictor", inputs: "Tensor", name: str) -> dict[str, Any]:
    """Return what is needed to use the graph: how an input is made, and what the outputs are, in plain values."""
    task, data = run.task, run.data
    tokens = str(inputs.dtype).endswith("int64")
    shape = ["rows", "words"] if tokens else ["rows", *inputs.shape[1:]]
    tuned = getattr(task, "thresholds", None) if "thresholds" in task.learned else None
    return {
        "model": name,
        "task": task.name,
        "input": {"name": INPUT, "type": str(inputs.dtype).removeprefix("torch."), "shape": shape},
        "output": {"name": OUTPUT, "columns": list(name_columns(run, inputs))},
        "outputs": data.outputs,
        "shares_in_training": run.priors,
        "tuned_thresholds": None if tuned is None else tuned.tolist(),
        "encoder": run.encoder.state() if run.encoder else None,
    }


def name_columns(run: "Predictor", inputs: "Tensor") -> Sequence[str]:
    """Return the names of the graph's output columns."""
    import torch

    with torch.inference_mode():
        return list(run.task.columns(run.data, run.loss, run.model(inputs)))


def main() -> None:
    """Run the command: a mistake ends in one sentence and exit code 1."""
    with command_words(__doc__) as words:
        cfg, out = parse_request(words)
        for note in export(cfg, out):
            print(f"note  {note}")
        print("\n".join(str(out.with_suffix(suffix)) for suffix in (".json", ".md", ".onnx")))


if __name__ == "__main__":
    main()
