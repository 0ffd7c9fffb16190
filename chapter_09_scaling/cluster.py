"""A cluster in numbers: how fast it computes, and how fast bytes move in nodes and between them.

Three speeds bound everything: arithmetic, memory and links. What a kernel or a collective takes is
the work over the speed that holds it up, the roofline, plus a fixed latency to get going.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from chapter_07_attention.config import whole_number
from chapter_09_scaling.accounting import MIXED, Product, StateBytes

WHOLE = ("gpus", "gpus_per_node", "processors", "itemsize")
POSITIVE = ("peak_flops", "memory_bytes", "memory_bandwidth", "node_bandwidth", "network_bandwidth")
LATENCIES = ("kernel_latency", "node_latency", "network_latency")
SHARES = ("attained", "usable_memory")


@dataclass(frozen=True)
class Cluster:
    """Nodes of GPUs (or what takes their place), all alike; bytes, seconds, FLOP/s, bytes/s.

    Bandwidths of links are those of one GPU in one direction: to others of its node, and its part
    of its node's network. A GPU has `processors` that make a product tile by tile. Nothing reaches
    the data sheet's speeds: `attained` is the share of each that is reached by large products whose
    tiles fill all processors, by passes over large arrays, and by long messages. `usable_memory` is
    the share that is left beside the framework, its buffers and gaps. Numbers have `itemsize`
    bytes, and parameters what `state` says. Raises ValueError for what is no size, speed or share.
    """

    gpus: int
    gpus_per_node: int
    peak_flops: float
    memory_bytes: float
    memory_bandwidth: float
    node_bandwidth: float
    network_bandwidth: float
    processors: int = 1
    tile: tuple[int, int] = (1, 1)
    kernel_latency: float = 5e-6
    node_latency: float = 5e-6
    network_latency: float = 10e-6
    attained: float = 0.75
    usable_memory: float = 0.9
    itemsize: int = 2
    state: StateBytes = MIXED

    def __post_init__(self) -> None:
        for name in WHOLE:
            whole_number(name, getattr(self, name))
        for size in self.tile:
            whole_number("tile", size)
        for name in POSITIVE:
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is above 0 and finite, not {value!r}")
        for name in LATENCIES:
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is from 0 up and finite, not {value!r}")
        for name in SHARES:
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ValueError(f"{name} is a share, above 0 and up to 1, not {value!r}")

    def of(self, gpus: int) -> Cluster:
        """The same with another number of GPUs."""
        return dataclasses.replace(self, gpus=gpus)

    def product_seconds(self, product: Product) -> float:
        """A matrix product takes as long as its tiles or its bytes, whichever take longer.

        Tiles are made in waves, one a processor, and the last wave takes its time however few tiles
        it has. Each operand is read and the result written once. Source: Williams et al., 2009,
        doi:10.1145/1498765.1498785 (the roofline); NVIDIA, Matrix Multiplication Background User's
        Guide, sections 2 and 3 (tiles and waves).
        """
        height, width = self.tile
        tiles = product.count * -(-product.rows // height) * -(-product.columns // width)
        filled = -(-tiles // self.processors) * self.processors
        flops = 2 * filled * height * width * product.inner
        numbers = product.rows * product.inner + product.inner * product.columns
        numbers = product.count * (numbers + product.rows * product.columns)
        arithmetic = flops / (self.peak_flops * self.attained)
        return self.kernel_latency + max(arithmetic, self.pass_seconds(numbers * self.itemsize))

    def pass_seconds(self, moved: float) -> float:
        """Reading and writing so many bytes of memory."""
        return moved / (self.memory_bandwidth * self.attained)

    def ring_seconds(self, moved: float, ranks: int, stride: int, steps: int) -> float:
        """A ring in which each of `ranks`, every stride-th GPU, sends so many bytes in `steps`.

        Within a node at the speed of its links. Across nodes, the group's members on one node run
        as many rings, so that each network card carries one.
        """
        if ranks == 1:
            return 0.0
        if self.together(ranks, stride):
            return moved / (self.node_bandwidth * self.attained) + steps * self.node_latency
        members = min(ranks, max(self.gpus_per_node // stride, 1))
        bandwidth = min(self.node_bandwidth, self.network_bandwidth * members)
        return moved / (bandwidth * self.attained) + steps * self.network_latency

    def send_seconds(self, moved: float, together: bool) -> float:
        """One message to a GPU of the same node, or of another."""
        bandwidth = self.node_bandwidth if together else self.network_bandwidth
        latency = self.node_latency if together else self.network_latency
        return moved / (bandwidth * self.attained) + latency

    def together(self, ranks: int, stride: int = 1) -> bool:
        """Whether so many GPUs, every stride-th, are on one node."""
        return ranks * stride <= self.gpus_per_node


# Data sheets: NVIDIA A100 80 GB (312 TFLOP/s in 16 bits, 2.04 TB/s, 108 processors, NVLink 600 GB/s
# in both directions together), DGX A100 (8 of them, 8 InfiniBand cards of 200 Gb/s). Its libraries
# make products in tiles of up to 256 x 128. Commonly reported as its best, not measured here,
# is a little over three quarters of each speed: 250 TFLOP/s, copies at 1.6 TB/s, rings at 230 GB/s.
A100_CLUSTER = Cluster(
    gpus=3072,
    gpus_per_node=8,
    peak_flops=312e12,
    memory_bytes=80e9,
    memory_bandwidth=2.04e12,
    node_bandwidth=300e9,
    network_bandwidth=25e9,
    processors=108,
    tile=(256, 128),
)

# Two-core laptops of 16 GB that multiply in float32 at 180 GFLOP/s, on gigabit Ethernet.
LAPTOPS = Cluster(
    gpus=8,
    gpus_per_node=1,
    peak_flops=180e9,
    memory_bytes=16e9,
    memory_bandwidth=40e9,
    node_bandwidth=40e9,
    network_bandwidth=125e6,
    network_latency=100e-6,
    usable_memory=0.7,
    itemsize=4,
    state=StateBytes(4, 4, 8),
)

CLUSTERS = {"a100": A100_CLUSTER, "laptops": LAPTOPS}
