"""Data parallelism: every rank has a copy of the model, and rows of its own to learn from.

The copies begin alike, and each step adds up the gradients of all, so they stay alike, bit for
bit. The sum need not wait for the whole backward pass: the last layers' gradients are complete
first, and travel, a bucket at a time, while those of the first are still computed.
Source: Li et al., 2020, PyTorch Distributed, arXiv:2006.15704.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Iterable

import numpy as np

from chapter_03_neural_nets import Module, Parameter
from chapter_09_scaling.communicator import Communicator


class Bucket:
    """Some parameters' gradients side by side in one array, which travels as one message."""

    def __init__(self, params: list[Parameter]) -> None:
        self.params = params
        self.flat = np.zeros(sum(p.size for p in params), params[0].dtype)
        ends = np.cumsum([p.size for p in params])[:-1]
        self.views = [part.reshape(p.shape) for part, p in zip(np.split(self.flat, ends), params)]
        self.missing = set(range(len(params)))

    def put(self, i: int, g: np.ndarray | None) -> None:
        """Move the gradient of a parameter here; what is not computed anywhere is 0."""
        self.views[i][...] = 0 if g is None else g
        self.params[i].grad = self.views[i]
        self.missing.discard(i)


def buckets_of(params: list[Parameter], bucket_bytes: int) -> list[Bucket]:
    """Parameters of one dtype each, in order, closed as soon as they have so many bytes."""
    groups: list[list[Parameter]] = []
    for p in params:
        last = groups[-1] if groups else []
        full = sum(other.data.nbytes for other in last) >= bucket_bytes
        if not last or full or last[0].dtype != p.dtype:
            groups.append([p])
        else:
            last.append(p)
    return [Bucket(group) for group in groups]


class DataParallel:
    """Keeps the copies of a model on all ranks alike.

    It sends rank 0's parameters to all, and after each backward pass `synchronize` adds up the
    gradients of all ranks in `grad`; give it to `train(before_step=[...])`. With `overlap`, a
    thread begins as soon as a bucket is full: nobody else may use `comm` meanwhile, and two
    backward passes need a `synchronize` between them (RuntimeError). A parameter that no rank used
    gets a gradient of zeros. `params` are those that are alike on all ranks, by default all of the
    model's. With `broadcast_buffers` all get rank 0's buffers as well, in the beginning and in
    `synchronize`: running statistics, which a forward pass changes. (PyTorch sends them before the
    next forward pass, so that in the end each rank has its own.) What a `state_dict` leaves out
    is nobody's to send.
    """

    def __init__(
        self,
        comm: Communicator,
        model: Module,
        bucket_bytes: int = 1 << 20,
        overlap: bool = True,
        algorithm: str = "ring",
        params: Iterable[Parameter] | None = None,
        broadcast_buffers: bool = True,
    ) -> None:
        self.comm, self.model, self.algorithm = comm, model, algorithm
        self.broadcast_buffers = broadcast_buffers
        params = list(model.parameters() if params is None else params)
        for p in params:
            p.data[...] = comm.broadcast(p.data)
        self._send_buffers()
        # Backwards: the last parameters' gradients come first.
        params = [p for p in params if p.requires_grad][::-1]
        self.buckets = buckets_of(params, bucket_bytes)
        self.sums: list[Future] = []  # of the buckets that are on their way
        self.times: list[tuple[float, float]] = []  # when each sum of the last step began and ended
        self.sender = ThreadPoolExecutor(1)
        self.hooks = [
            p.register_hook(lambda g, bucket=bucket, i=i: self._complete(bucket, i, g))
            for bucket in self.buckets
            for i, p in enumerate(bucket.params)
            if overlap and comm.size > 1
        ]

    def _complete(self, bucket: Bucket, i: int, g: np.ndarray) -> None:
        """A gradient is complete: send what is full, in the order that all ranks keep to."""
        if i not in bucket.missing:
            raise RuntimeError("two backward passes without `synchronize` between them: add up "
                               "with `accumulated`, or pass overlap=False")  # fmt: skip
        bucket.put(i, g)
        while len(self.sums) < len(self.buckets) and not self.buckets[len(self.sums)].missing:
            self._send()

    def _send(self) -> None:
        self.sums.append(self.sender.submit(self._sum, self.buckets[len(self.sums)].flat))

    def _sum(self, flat: np.ndarray) -> tuple[float, float]:
        start = time.perf_counter()
        self.comm.all_reduce(flat, algorithm=self.algorithm, out=flat)
        return start, time.perf_counter()

    def _send_buffers(self) -> None:
        if self.broadcast_buffers:
            saved = self.model.state_dict()
            for name, buffer in self.model.named_buffers():
                if name in saved:
                    buffer[...] = self.comm.broadcast(buffer)

    def close(self) -> None:
        """Leave the model alone from now on."""
        for hook in self.hooks:
            hook.remove()
        self.sender.shutdown()

    def synchronize(self, *_: Any) -> None:
        """Let every `grad` be the sum of all ranks', and every buffer rank 0's."""
        for bucket in self.buckets:
            for i in tuple(bucket.missing):
                bucket.put(i, bucket.params[i].grad)
        while len(self.sums) < len(self.buckets):
            self._send()
        self.times = [done.result() for done in self.sums]
        self.sums.clear()
        for bucket in self.buckets:
            bucket.missing.update(range(len(bucket.params)))
        self._send_buffers()
