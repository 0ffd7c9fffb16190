"""What parallel training sends: bytes that leave a rank, by formula, for every way to divide work.

A ring passes n numbers around in N chunks, so that every link carries its share all the time. To
add them up everywhere takes two rounds, in each of which a rank sends all chunks but one: nearly 2n
numbers, however many ranks there are.
"""

from __future__ import annotations

from fractions import Fraction

from chapter_07_attention import GPTConfig
from chapter_09_scaling.accounting import check_sizes, check_stage
from chapter_09_scaling.collectives import bounds


def chunk(elements: int, ranks: int, i: int) -> int:
    """The elements of chunk i, counted around the ring; sizes differ by one at most."""
    ends = bounds(elements, ranks)
    return ends[i % ranks + 1] - ends[i % ranks]


def all_chunks_but(i: int, elements: int, itemsize: int, ranks: int, rank: int | None) -> float:
    """Bytes of all chunks but the i-th from the rank's own, or the mean over the ranks."""
    check_ring(elements, itemsize, ranks, rank)
    if rank is None:
        return float(Fraction(elements * itemsize * (ranks - 1), ranks))
    return itemsize * (elements - chunk(elements, ranks, rank + i))


def ring_reduce_scatter_bytes(
    elements: int, itemsize: int, ranks: int, rank: int | None = None
) -> float:
    """Bytes that `rank` sends until it has the sum of chunk `rank`: all chunks but its own.

    Step by step these are chunks rank - 1, rank - 2, ..., rank + 1. Here and below, without `rank`,
    the mean of all ranks: (N - 1) / N of all the bytes. Source: Patarasuk and Yuan, 2009,
    doi:10.1016/j.jpdc.2008.09.002.
    """
    return all_chunks_but(0, elements, itemsize, ranks, rank)


def ring_all_gather_bytes(
    elements: int, itemsize: int, ranks: int, rank: int | None = None
) -> float:
    """Bytes that `rank` sends until all have all chunks: chunks rank, rank - 1, ..., rank + 2.

    `elements` are those of all chunks together. What the next rank has already is not sent to it.
    """
    return all_chunks_but(1, elements, itemsize, ranks, rank)


def ring_all_reduce_bytes(
    elements: int, itemsize: int, ranks: int, rank: int | None = None
) -> float:
    """Bytes that `rank` sends until all have the sum: a reduce-scatter, then an all-gather."""
    scattered = ring_reduce_scatter_bytes(elements, itemsize, ranks, rank)
    return scattered + ring_all_gather_bytes(elements, itemsize, ranks, rank)


def data_parallel_bytes(
    parameters: int, itemsize: int, ranks: int, zero_stage: int = 0, rank: int | None = None
) -> float:
    """Bytes that a rank sends in a step of data-parallel training, all parameters in one ring.

    Plain: gradients are added up everywhere. ZeRO 1 and 2: gradients where they are used, then the
    new weights are gathered, which is as much. ZeRO 3 gathers weights twice, once forward and once
    backward: half as much again. Source: Rajbhandari et al., 2019, arXiv:1910.02054, section 7.
    """
    check_stage(zero_stage)
    gathers = 2 if zero_stage == 3 else 1
    scattered = ring_reduce_scatter_bytes(parameters, itemsize, ranks, rank)
    return scattered + gathers * ring_all_gather_bytes(parameters, itemsize, ranks, rank)


def tensor_parallel_bytes(
    config: GPTConfig,
    batch: int,
    time: int,
    itemsize: int,
    ranks: int,
    rank: int | None = None,
    checkpointing: bool = False,
) -> float:
    """Bytes that a rank sends in a step whose layers' matrices are divided among ranks.

    Attention and perceptron of each layer add up their parts, (B, T, C), once forward and once
    backward; with `checkpointing` forward runs twice. What a divided vocabulary sends besides is
    not counted. Source: Shoeybi et al., 2019, arXiv:1909.08053.
    """
    check_sizes(batch=batch, time=time)
    times = config.n_layer * (6 if checkpointing else 4)
    return times * ring_all_reduce_bytes(batch * time * config.n_embd, itemsize, ranks, rank)


def pipeline_bytes(
    config: GPTConfig, batch: int, time: int, itemsize: int, stages: int, rank: int | None = None
) -> float:
    """Bytes that a stage sends in a step: (B, T, C) onwards, and as much back.

    The first stage has nobody to send back to, the last nobody to send on to. All micro-batches
    together are the batch.
    """
    check_sizes(batch=batch, time=time)
    check_ring(batch * time, itemsize, stages, rank)
    whole = batch * time * config.n_embd * itemsize
    if rank is None:
        return float(Fraction(2 * (stages - 1) * whole, stages))
    return whole * ((rank < stages - 1) + (rank > 0))


def expert_parallel_bytes(
    config: GPTConfig, batch: int, time: int, itemsize: int, ranks: int, experts_per_token: int = 1
) -> float:
    """Bytes that a rank sends in a step for one layer of experts that are spread over ranks.

    Each of the rank's own B T tokens goes to k experts and comes back, forward, and so do the
    gradients: four times k B T C numbers, of which the N-th part stays where it is if all experts
    are asked equally often. Source: Lepikhin et al., 2020, arXiv:2006.16668.
    """
    check_sizes(batch=batch, time=time, experts_per_token=experts_per_token)
    check_ring(batch * time, itemsize, ranks, None)
    whole = 4 * experts_per_token * batch * time * config.n_embd * itemsize
    return float(Fraction(whole * (ranks - 1), ranks))


def check_ring(elements: int, itemsize: int, ranks: int, rank: int | None) -> None:
    check_sizes(itemsize=itemsize, ranks=ranks)
    if type(elements) is not int or elements < 0:
        raise ValueError(f"elements are a whole number from 0 up, not {elements!r}")
    if rank is not None and (type(rank) is not int or not 0 <= rank < ranks):
        raise ValueError(f"{ranks} ranks are 0 to {ranks - 1}, not {rank!r}")
