"""How a training is laid out over a cluster, and whether it fits into memory."""

from __future__ import annotations

from dataclasses import dataclass

from chapter_07_attention import GPTConfig
from chapter_07_attention.config import switch, whole_number
from chapter_09_scaling.accounting import (
    head_product,
    layer_parameters,
    parameters,
    sizes,
)
from chapter_09_scaling.cluster import Cluster

FLOAT = 4  # bytes: the loss works in float32


@dataclass(frozen=True)
class Layout:
    """tensor x pipeline x data GPUs; the batch in pieces; what is forgotten and made again.

    Every layer's matrices are divided among `tensor` neighbours, the layers among `pipeline`
    stages, the batch among `data` copies and then into micro-batches of `micro_batch` texts. Each
    stage has its layers in `interleaved` pieces, so that a micro-batch comes by as many times.
    With `recompute` a layer keeps its input only.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    micro_batch: int = 1
    interleaved: int = 1
    recompute: bool = True

    def __post_init__(self) -> None:
        for name in ("tensor", "pipeline", "data", "micro_batch", "interleaved"):
            whole_number(name, getattr(self, name))
        switch("recompute", self.recompute)

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data

    def micro_batches(self, global_batch: int) -> int:
        """How many each pipeline works on in a step."""
        return global_batch // (self.data * self.micro_batch)


def check_layout(model: GPTConfig, cluster: Cluster, layout: Layout, global_batch: int) -> None:
    """ValueError, saying what does not divide what."""
    tensor, pipeline, pieces = layout.tensor, layout.pipeline, layout.interleaved
    whole_number("global_batch", global_batch)
    if cluster.gpus % (tensor * pipeline):
        raise ValueError(f"{cluster.gpus} GPUs do not divide into copies of tensor {tensor} x "
                         f"pipeline {pipeline}")  # fmt: skip
    if layout.gpus != cluster.gpus:
        raise ValueError(f"tensor {tensor} x pipeline {pipeline} x data {layout.data} are "
                         f"{layout.gpus} GPUs, not the cluster's {cluster.gpus}")  # fmt: skip
    if model.n_head % tensor or model.n_kv_head % tensor or model.hidden % tensor:
        raise ValueError(f"tensor {tensor} must divide {model.n_head} heads, {model.n_kv_head} of "
                         f"keys and values, and {model.hidden} hidden numbers")  # fmt: skip
    if model.n_layer % (pipeline * pieces):
        raise ValueError(f"pipeline {pipeline} x interleaved {pieces} must divide the "
                         f"{model.n_layer} layers")  # fmt: skip
    if global_batch % (layout.data * layout.micro_batch):
        raise ValueError(f"data {layout.data} x micro_batch {layout.micro_batch} must divide the "
                         f"batch of {global_batch}")  # fmt: skip
    if pieces > 1 and (pipeline == 1 or layout.micro_batches(global_batch) % pipeline):
        raise ValueError(f"interleaved pieces want more than one stage, and micro-batches by the "
                         f"{pipeline}, not {layout.micro_batches(global_batch)}")  # fmt: skip


def parameters_per_gpu(model: GPTConfig, layout: Layout) -> int:
    """Those of the GPU that has most: all tables on one stage, or one of them on the first and the
    last. Norms and a few biases are counted as divided, though each of `tensor` GPUs has them."""
    if layout.pipeline == 1:
        return -(-parameters(model) // layout.tensor)
    layers = model.n_layer // layout.pipeline * layer_parameters(model)
    places = model.block_size * model.n_embd if model.positions == "learned" else 0
    return -(-(layers + model.vocab_size * model.n_embd + places) // layout.tensor)


def kept_bytes(model: GPTConfig, layout: Layout, itemsize: int) -> tuple[int, float]:
    """Bytes that a layer keeps of a micro-batch: its input alone, and all that backward needs.

    Fused kernels keep less than this book's. Undivided: the inputs of both norms and of the
    matrices behind them. Divided by `tensor`: queries, keys, values and answers; what comes out of
    the perceptron's first matrix and goes into its second; the shares. Dropout keeps a byte for
    every number, and the shares it has thinned out. For GPT-2's shape with dropout in 16 bits that
    is B T C (10 + 24 / t + 5 H T / (C t)). Source: Korthikanti et al., 2022, arXiv:2205.05198.
    """
    places = layout.micro_batch * model.block_size
    width, asked, packed, first = sizes(model)
    mask = 1 if model.dropout else 0
    shares = model.n_head * model.block_size * (itemsize + (itemsize + mask) * mask)
    whole = width * (4 * itemsize + 2 * mask)
    divided = (packed + asked + first + model.hidden) * itemsize + shares
    return places * width * itemsize, places * (whole + divided / layout.tensor)


def memory(
    model: GPTConfig, cluster: Cluster, layout: Layout, global_batch: int
) -> dict[str, float]:
    """Bytes of the fullest GPU, by what they are for.

    Of p stages the first has begun p micro-batches before the first comes back, the last one, but
    makes the logits. With v interleaved pieces these are p + (p - 1) / v and p - (p - 1) / v.
    Source: Narayanan et al., 2021, arXiv:2104.04473, section 2.2.
    """
    held = parameters_per_gpu(model, layout)
    kept, inside = kept_bytes(model, layout, cluster.itemsize)
    again = inside if layout.recompute else 0.0
    kept = kept if layout.recompute else inside
    layers, stages = model.n_layer // layout.pipeline, layout.pipeline
    more = (stages - 1) / layout.interleaved
    most = layout.micro_batches(global_batch)
    at_first = min(stages + more if layout.interleaved > 1 else stages, most)
    at_last = min(stages - more, most)
    product = head_product(model, layout.micro_batch, model.block_size, layout.tensor)
    # The logits, and in float32 the same and their exponentials.
    logits = product.rows * product.columns * (cluster.itemsize + 2 * FLOAT)
    weights, gradients, optimizer = (held * size for size in cluster.state)
    return {
        "weights": weights,
        "gradients": gradients,
        "optimiser": optimizer,
        "activations": max(at_first * layers * kept, at_last * layers * kept + logits),
        "recomputed": again,
    }
