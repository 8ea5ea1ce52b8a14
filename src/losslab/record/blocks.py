"""Blocks of test rows, and each metric without one of them: how much a metric would differ on other rows like these.

Comparisons pair the blocks of runs that tested the same rows. All of it without torch.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BLOCKS = 50


@dataclass(frozen=True)
class Blocks:
    """Each test metric of a run, on all rows and without each block of them."""

    metrics: list[str]  # M names
    values: NDArray[np.float64]  # on all rows (M,)
    without: NDArray[np.float64]  # without one block (G, M); NaN where a metric has no value then
    rows: int  # how many rows were tested
    digest: int  # of their numbers; equal for runs that tested the same rows

    @property
    def block_rows(self) -> int:
        """The number of rows in each block."""
        return self.rows // len(self.without)


def pseudo_values(blocks: Blocks, metric: str) -> NDArray[np.float64]:
    """Return the jackknife's pseudo-value of each block (G,): `(R v - (R - b) v_g) / b`.

    The metric is v on all R rows and v_g without the b rows of block g. For a metric that is a mean over rows, the
    pseudo-value is the mean over the block. For any smooth metric, the variance of the pseudo-values divided by G
    estimates its variance over test sets of R new rows.
    Source: Tukey 1958; Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11.

    Raises:
        ValueError: for a metric that the run does not have.

    >>> halves = Blocks(["mae"], np.array([2.0]), np.array([[3.0], [1.0]]), rows=10, digest=0)
    >>> pseudo_values(halves, "mae")
    array([1., 3.])
    """
    column, size = blocks.metrics.index(metric), blocks.block_rows
    left = (blocks.rows - size) * blocks.without[:, column]
    pseudo: NDArray[np.float64] = (blocks.rows * blocks.values[column] - left) / size
    return pseudo


def digest_rows(rows: Array, weight: Array | None = None) -> int:
    """Return 32 bits that tell one set of row numbers, and their weights, from another, whatever their order.

    Runs that weigh the same rows differently are not compared row by row, as their metrics are of different things.

    >>> digest_rows(np.array([3, 1])) == digest_rows(np.array([1, 3])) != digest_rows(np.array([1, 2]))
    True
    """
    order = np.argsort(rows)
    numbers = rows[order].astype("<i8").tobytes()
    if weight is not None:
        numbers += weight[order].astype("<f8").tobytes()
    return int.from_bytes(hashlib.blake2b(numbers, digest_size=4).digest(), "little")


def shuffle(rows: Array) -> NDArray[np.int64]:
    """Return an order of the rows (R,) that follows from their numbers alone, and is random for all that matters.

    Source: SplitMix64; Steele, Lea & Flood, Fast Splittable Pseudorandom Number Generators, 2014.
    """
    mixed = rows.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    order: NDArray[np.int64] = (mixed ^ (mixed >> np.uint64(31))).argsort()
    return order


def assign_blocks(rows: Array) -> NDArray[np.int8]:
    """Return the block of each row (R,), or -1 for the few left over: at most 50 blocks of as many rows each.

    There are `G = R // ceil(R / 50)` of them. Runs that test the same rows have the same blocks, in whatever order the
    rows come. A single row is in no block.

    >>> np.unique(assign_blocks(np.arange(99)), return_counts=True)[1][:3]
    array([1, 2, 2])
    """
    block = np.full(len(rows), -1, np.int8)
    if len(rows) > 1:
        count = len(rows) // -(-len(rows) // BLOCKS)
        size = len(rows) // count
        block[shuffle(rows)[: count * size]] = np.repeat(np.arange(count), size)
    return block
