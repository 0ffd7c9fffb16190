"""Where the time of a step goes: seconds of one GPU of the slowest stage, part by part.

A step is the same few things done very often, so one of each is enough: the matrix products and the
passes over memory of a layer, what its parts send each other, the wait until a pipeline is full,
and, once a step, the sum of the gradients and the optimiser. Nothing overlaps.
"""

from __future__ import annotations

from chapter_07_attention import GPTConfig
from chapter_09_scaling.accounting import Product, head_product, layer_products, sizes
from chapter_09_scaling.cluster import Cluster
from chapter_09_scaling.layouts import Layout, parameters_per_gpu
from chapter_09_scaling.traffic import ring_all_gather_bytes, ring_all_reduce_bytes

# Kernels of a layer besides its products, forward: two norms, two additions, softmax, activation,
# and two that move heads; backward each once more, and the sums for biases.
OTHER_KERNELS = {"forward": 8, "backward": 12}
# Bytes that the loss moves a logit, in float32, operation by operation: to float32, largest, less
# that, exponential, sum, quotient; backward less the target, times the gradient, back to 16 bits.
LOSS_BYTES = 6 + 4 + 8 + 8 + 4 + 8 + 8 + 6


def step_parts(
    model: GPTConfig, cluster: Cluster, layout: Layout, global_batch: int
) -> dict[str, float]:
    """Seconds of the slowest stage, the last, which has the logits besides its layers.

    The pipeline fills while `pipeline` - 1 other stages do their first of `interleaved` pieces, and
    empties likewise: (p - 1) / (m v) of the work of m micro-batches. Source: Narayanan et al.,
    2021, arXiv:2104.04473, section 2.2.
    """
    micro_batches = layout.micro_batches(global_batch)
    layers = model.n_layer // layout.pipeline
    products, moves = layer_seconds(model, cluster, layout)
    shared = tensor_seconds(model, cluster, layout)
    head = head_product(model, layout.micro_batch, model.block_size, layout.tensor)
    loss = cluster.pass_seconds(LOSS_BYTES * head.rows * head.columns)
    sent = pipeline_seconds(model, cluster, layout)
    stage = layers * (products + moves + shared) + sent
    return {
        "matrix products": micro_batches * (layers * products + thrice(cluster, head)),
        "memory passes": micro_batches * (layers * moves + loss),
        "tensor parallel": micro_batches * layers * shared,
        "pipeline sends": micro_batches * sent,
        "pipeline bubble": (layout.pipeline - 1) / layout.interleaved * stage,
        "data parallel": data_seconds(model, cluster, layout),
        "optimiser": optimizer_seconds(model, cluster, layout),
    }


def layer_seconds(model: GPTConfig, cluster: Cluster, layout: Layout) -> tuple[float, float]:
    """A layer's matrix products, and its passes over memory, of a micro-batch, forth and back."""
    products = layer_products(model, layout.micro_batch, model.block_size, layout.tensor)
    forward = sum(cluster.product_seconds(product) for product in products)
    whole = sum(thrice(cluster, product) for product in products) + forward * layout.recompute
    ahead, back = (
        OTHER_KERNELS[way] * cluster.kernel_latency + cluster.pass_seconds(numbers)
        for way, numbers in passes(model, cluster, layout).items()
    )
    return whole, ahead * (2 if layout.recompute else 1) + back


def thrice(cluster: Cluster, product: Product) -> float:
    """A product forward, and the two of its gradients: g w^T, x^T g."""
    name, count, rows, inner, columns = product
    back = Product(name, count, rows, columns, inner), Product(name, count, inner, rows, columns)
    return sum(cluster.product_seconds(p) for p in (product, *back))


def passes(model: GPTConfig, cluster: Cluster, layout: Layout) -> dict[str, float]:
    """Bytes that a layer's other kernels read and write of a micro-batch.

    Forward: a norm reads and writes, an addition to the residual path reads two arrays and writes
    one, softmax and activation read and write. Backward: norms, softmax and activation read what
    went in (or came out) and the gradient and write another, and the residual path's gradients are
    added. Dropout on the residual path is part of the addition but for its mask of one byte a
    number, backward it is a pass; that of the shares is a pass of its own.
    """
    places = layout.micro_batch * model.block_size
    width, asked, _, first = sizes(model)
    shares = model.n_head * model.block_size
    mask = 1 / cluster.itemsize if model.dropout else 0
    dropout = 2 + mask if model.dropout else 0
    forward = width * 2 * (2 + 3 + mask)
    forward += (2 * asked + first + model.hidden + shares * (2 + dropout)) / layout.tensor
    backward = width * 2 * (3 + 3 + dropout)
    backward += (2 * asked + 2 * first + model.hidden + shares * (3 + dropout)) / layout.tensor
    return {
        "forward": places * forward * cluster.itemsize,
        "backward": places * backward * cluster.itemsize,
    }


def tensor_seconds(model: GPTConfig, cluster: Cluster, layout: Layout) -> float:
    """A layer's all-reduces of a micro-batch: two forward (each time), two backward."""
    ranks = layout.tensor
    elements = layout.micro_batch * model.block_size * model.n_embd
    moved = ring_all_reduce_bytes(elements, cluster.itemsize, ranks)
    times = 6 if layout.recompute else 4
    return times * cluster.ring_seconds(moved, ranks, 1, 2 * (ranks - 1))


def pipeline_seconds(model: GPTConfig, cluster: Cluster, layout: Layout) -> float:
    """What a stage sends of a micro-batch, forth and back, once for each of its pieces.

    Each of `tensor` GPUs sends a part, and the parts are put together behind the way: Narayanan et
    al., 2021, section 4.1.
    """
    if layout.pipeline == 1:
        return 0.0
    elements, ranks = layout.micro_batch * model.block_size * model.n_embd, layout.tensor
    part = elements * cluster.itemsize / ranks
    gathered = ring_all_gather_bytes(elements, cluster.itemsize, ranks)
    sent = cluster.send_seconds(part, cluster.together(layout.gpus))
    sent += cluster.ring_seconds(gathered, ranks, 1, ranks - 1)
    return 2 * layout.interleaved * sent


def data_seconds(model: GPTConfig, cluster: Cluster, layout: Layout) -> float:
    """The sum of the copies' gradients."""
    ranks, held = layout.data, parameters_per_gpu(model, layout)
    moved = ring_all_reduce_bytes(held, cluster.state.gradients, ranks)
    return cluster.ring_seconds(moved, ranks, layout.tensor, 2 * (ranks - 1))


def optimizer_seconds(model: GPTConfig, cluster: Cluster, layout: Layout) -> float:
    """Gradients are read twice (for their length, then to step), the state read and written, the
    weights written."""
    weights, gradients, state = cluster.state
    moved = parameters_per_gpu(model, layout) * (2 * gradients + 2 * state + weights)
    return cluster.pass_seconds(moved)
