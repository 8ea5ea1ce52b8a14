"""Backpropagation by hand: a sigmoid neuron taken apart into single operations, and one step of each loss.

The circuit is the textbooks': w = (2, -3, -3), x = (-1, -2), y = 1 / (1 + exp(-(w0 x0 + w1 x1 + w2))). Each operation
knows its own derivative and nothing else; the chain rule does the rest. Beside each gradient stands autograd's.

Source: Karpathy and Johnson, CS231n, Backpropagation, intuitions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from losslab.config.catalogue import CONF, options
from losslab.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INPUTS = {"w0": 2.0, "x0": -1.0, "w1": -3.0, "x1": -2.0, "w2": -3.0}
RATE = 0.1  # of the step that each loss takes


class Operation(NamedTuple):
    """What a node computes, in numbers and in tensors, and its derivative by each of its inputs."""

    text: str
    value: Callable[..., float]
    tensor: Callable[..., torch.Tensor]
    slopes: Callable[..., tuple[float, ...]]


class Node(NamedTuple):
    """A node of the circuit: its name, what it computes, the nodes that it computes it of, and its place."""

    name: str
    operation: str
    of: tuple[str, ...]
    at: tuple[float, float]


OPERATIONS = {
    "product": Operation("{0} {1}", lambda a, b: a * b, lambda a, b: a * b, lambda a, b: (b, a)),
    "sum": Operation("{0} + {1}", lambda a, b: a + b, lambda a, b: a + b, lambda a, b: (1.0, 1.0)),
    "minus": Operation("-{0}", lambda a: -a, lambda a: -a, lambda a: (-1.0,)),
    "exp": Operation("exp {0}", math.exp, torch.exp, lambda a: (math.exp(a),)),
    "plus one": Operation("{0} + 1", lambda a: a + 1, lambda a: a + 1, lambda a: (1.0,)),
    "inverse": Operation("1 / {0}", lambda a: 1 / a, lambda a: 1 / a, lambda a: (-1 / a**2,)),
}
NEURON = (
    Node("a", "product", ("w0", "x0"), (1, 3.5)),
    Node("b", "product", ("w1", "x1"), (1, 1.5)),
    Node("c", "sum", ("a", "b"), (2, 2.5)),
    Node("d", "sum", ("c", "w2"), (3, 2)),
    Node("e", "minus", ("d",), (4, 2)),
    Node("f", "exp", ("e",), (5, 2)),
    Node("g", "plus one", ("f",), (6, 2)),
    Node("y", "inverse", ("g",), (7, 2)),
)
PLACES = {"w0": (0, 4), "x0": (0, 3), "w1": (0, 2), "x1": (0, 1), "w2": (2, 0)}


def forward(circuit: Sequence[Node], inputs: Mapping[str, float]) -> dict[str, float]:
    """Compute the value of each node, in order."""
    values = dict(inputs)
    for node in circuit:
        values[node.name] = OPERATIONS[node.operation].value(*(values[name] for name in node.of))
    return values


def backward(circuit: Sequence[Node], values: Mapping[str, float]) -> dict[str, float]:
    """Compute the gradient of the last node by each other, in the reverse order, by the chain rule.

    >>> gradient = backward(NEURON, forward(NEURON, INPUTS))
    >>> [round(gradient[name], 2) for name in ("g", "f", "e", "d", "w0", "x0")]
    [-0.53, -0.53, -0.2, 0.2, -0.2, 0.39]
    """
    gradient = {**dict.fromkeys(values, 0.0), circuit[-1].name: 1.0}
    for node in reversed(circuit):
        slopes = OPERATIONS[node.operation].slopes(*(values[name] for name in node.of))
        for name, slope in zip(node.of, slopes, strict=True):
            gradient[name] += gradient[node.name] * slope
    return gradient


def ask_autograd(circuit: Sequence[Node], inputs: Mapping[str, float]) -> dict[str, float]:
    """Return the gradients that autograd finds for the same circuit."""
    tensors = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in inputs.items()}
    for node in circuit:
        tensors[node.name] = OPERATIONS[node.operation].tensor(*(tensors[name] for name in node.of))
        tensors[node.name].retain_grad()
    torch.autograd.backward(tensors[circuit[-1].name])
    return {name: float(tensor.grad) for name, tensor in tensors.items() if tensor.grad is not None}


def write_steps(circuit: Sequence[Node], inputs: Mapping[str, float]) -> str:
    """Write the way back through the circuit, step by step: the chain rule in numbers, beside autograd's."""
    values = forward(circuit, inputs)
    mine, theirs = backward(circuit, values), ask_autograd(circuit, inputs)
    lines = [f"{'node':<6}{'is':<10}{'value':>8}  {'gradient by hand':<34}{'autograd':>9}"]
    last = circuit[-1]
    lines.append(f"{last.name:<6}{write(last):<10}{values[last.name]:8.2f}  {'1.00, where it begins':<34}{1:9.2f}")
    known = {node.name: node for node in circuit}
    for node in reversed(circuit):
        slopes = OPERATIONS[node.operation].slopes(*(values[name] for name in node.of))
        for name, slope in zip(node.of, slopes, strict=True):
            what = write(known[name]) if name in known else "input"
            by_hand = f"{mine[node.name]:.2f} x {slope:.2f} = {mine[name]:.2f}"
            lines.append(f"{name:<6}{what:<10}{values[name]:8.2f}  {by_hand:<34}{theirs[name]:9.2f}")
    return "\n".join(lines)


def write(node: Node) -> str:
    """Write what a node computes, such as `a + b`."""
    return OPERATIONS[node.operation].text.format(*node.of)


def draw(circuit: Sequence[Node], inputs: Mapping[str, float]) -> "Figure":
    """Draw the circuit: above each node its value, below it the gradient of the output by it."""
    from losslab.page.figures import BLUE, GREY, ORANGE, make_figure

    values = forward(circuit, inputs)
    gradient = backward(circuit, values)
    places = {**PLACES, **{node.name: node.at for node in circuit}}
    drawn, grid = make_figure(11, 4.6)
    axis = grid[0, 0]
    for node in circuit:
        for name in node.of:
            axis.annotate("", node.at, places[name], zorder=1,
                          arrowprops={"arrowstyle": "->", "color": GREY, "shrinkA": 22, "shrinkB": 22})  # fmt: skip
    words = {node.name: write(node) for node in circuit}
    for name, (x, y) in places.items():
        axis.text(x, y, f"{name} = {words[name]}" if name in words else name, ha="center", va="center", fontsize=9,
                  bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": GREY})  # fmt: skip
        axis.text(x, y + 0.24, f"{values[name]:.2f}", ha="center", va="bottom", color=BLUE)
        axis.text(x, y - 0.24, f"{gradient[name]:.2f}", ha="center", va="top", color=ORANGE)
    axis.set(xlim=(-0.5, 7.6), ylim=(-0.7, 4.7), title="above: the value; below: the gradient of y by it")
    axis.set_axis_off()
    return drawn


def step_losses() -> str:
    """Write one step of each loss: its value at a score, its slope there, autograd's, and the loss after the step.

    The slope is that of the loss's card between the neighbours of the score, which needs no derivative.
    """
    import numpy as np

    from losslab.card import compute, parse_request

    lines = [f"{'loss':<34}{'score':>8}{'loss':>10}{'slope':>10}{'autograd':>10}{'after':>10}"]
    for name in options([str(CONF)], "loss"):
        curve = next(curve for curve in compute(parse_request([f"loss={name}", "vs=[]"])[0], {}).curves if curve.own)
        place = len(curve.x) // 4  # a score that is wrong
        scores, loss = curve.scores, curve.loss
        slope = (loss[place + 1] - loss[place - 1]) / (scores[place + 1] - scores[place - 1])
        order = np.argsort(scores)
        after = np.interp(scores[place] - RATE * curve.gradient[place], scores[order], loss[order])
        numbers = (scores[place], loss[place], slope, curve.gradient[place], after)
        lines.append(f"{curve.name:<34}{numbers[0]:8.2f}" + "".join(f"{number:10.4g}" for number in numbers[1:]))
    return "\n".join(lines)


def main(folder: Path) -> None:
    """Print all steps, and draw the circuit into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{write_steps(NEURON, INPUTS)}\n\none step of each loss, at a score that is wrong, with a learning rate of "
          f"{RATE:g}\n\n{step_losses()}")  # fmt: skip
    with replacing(folder / "circuit.png") as picture:
        draw(NEURON, INPUTS).savefig(picture, format="png", dpi=150)
    print(folder / "circuit.png")
