"""Every kernel of chapter 5, forward and backward, beside its composed form and PyTorch's own.

python tests/benchmarks/kernels.py --figure chapter_05_gradient_mastery/assets/speed.png
"""

from __future__ import annotations

import argparse

import numpy as np
from interleaved import medians, need

import chapter_03_neural_nets as chapter_03
import chapter_05_gradient_mastery as chapter_05
from utils import Tensor
from utils.memory import keep_memory
from utils.plotting import save_figure

B, T, C, V = 12, 64, 128, 65


def cases(rng: np.random.Generator) -> dict:
    """Each kernel with its arguments and keywords, and how PyTorch's function is called."""

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    x, weight, bias = normal(B, T, C), normal(4 * C, C) / C**0.5, normal(4 * C)
    scale, shift = normal(C), normal(C)
    targets, ids = rng.integers(V, size=(B, T)), rng.integers(V, size=(B, T))
    return {
        "linear": (chapter_05.linear, [x, weight, bias], {}, lambda f, *a: f.linear(*a)),
        "linear + relu": (chapter_05.linear_activation, [x, weight, bias],
                          {"activation": "relu"}, lambda f, *a: f.relu(f.linear(*a))),
        "linear + gelu": (chapter_05.linear_activation, [x, weight, bias],
                          {"activation": "gelu_tanh"},
                          lambda f, *a: f.gelu(f.linear(*a), approximate="tanh")),
        "softmax": (chapter_05.softmax, [x], {}, lambda f, a: f.softmax(a, -1)),
        "log-softmax": (chapter_05.log_softmax, [x], {}, lambda f, a: f.log_softmax(a, -1)),
        "cross-entropy": (chapter_05.mean_cross_entropy, [normal(B, T, V), targets], {},
                          lambda f, a, t: f.cross_entropy(a.view(-1, V), t.view(-1))),
        "embedding": (chapter_05.embedding, [normal(V, C), ids], {},
                      lambda f, w, i: f.embedding(i, w)),
        "batch norm": (chapter_05.batch_norm, [normal(B * T, C), scale, shift], {},
                       lambda f, a, w, b: f.batch_norm(a, None, None, w, b, training=True)),
        "layer norm": (chapter_05.layer_norm, [x, scale, shift], {},
                       lambda f, a, w, b: f.layer_norm(a, (C,), w, b)),
        "RMS norm": (chapter_05.rms_norm, [x, scale], {}, lambda f, a, w: f.rms_norm(a, (C,), w)),
        "gelu (erf)": (chapter_05.gelu, [normal(B, T, 4 * C)], {}, lambda f, a: f.gelu(a)),
        "gelu (tanh)": (chapter_05.gelu, [normal(B, T, 4 * C)], {"approximate": "tanh"},
                        lambda f, a: f.gelu(a, approximate="tanh")),
        "silu": (chapter_05.silu, [normal(B, T, 4 * C)], {}, lambda f, a: f.silu(a)),
        "dropout (mask given)": (chapter_05.masked, [x, rng.random(x.shape) > 0.1],
                                 {"scale": 1 / 0.9}, lambda f, a, kept: a * kept * (1 / 0.9)),
    }  # fmt: skip


def job(function, args, keywords, g):
    tensors = [Tensor(a, requires_grad=True) if a.dtype.kind == "f" else a for a in args]
    leaves = [t for t in tensors if isinstance(t, Tensor)]

    def run():
        for leaf in leaves:
            leaf.grad = None
        y = function(*tensors, **keywords)
        y.backward(g)
        return y.data, [leaf.grad for leaf in leaves]

    return run


def torch_job(torch, call, args, g):
    tensors = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in args]
    leaves, g = [t for t in tensors if t.requires_grad], torch.tensor(g)

    def run():
        for leaf in leaves:
            leaf.grad = None
        y = call(torch.nn.functional, *tensors)
        y.backward(g)
        return y.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]

    return run


def adam_jobs(torch, rng) -> dict:
    """One update of the 40 or so parameters of a GPT of four layers and width 128."""
    shapes = [(V, C), (T, C)]
    for _ in range(4):
        shapes += [(3 * C, C), (3 * C,), (C, C), (C,), (4 * C, C), (4 * C,), (C, 4 * C), (C,)]
        shapes += [(C,)] * 4
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]

    def ours(optimizer):
        params = [chapter_03.Parameter(a.copy()) for a in arrays]
        for p, a in zip(params, arrays):
            p.grad = 0.1 * a
        return optimizer(params).step

    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    for p in theirs:
        p.grad = 0.1 * p.detach()
    return {
        "kernel": ours(chapter_05.Adam),
        "composed": ours(chapter_03.Adam),
        "PyTorch": torch.optim.Adam(theirs).step,
    }


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--only", help="only kernels whose name holds this")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's")
    parser.add_argument("--figure", help="draw the speed-ups into this file")
    args = parser.parse_args(argv)
    torch = need("torch")
    keep_memory()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    print(f"{'forward and backward, microseconds':36}{'composed':>9}{'kernel':>9}{'PyTorch':>9}"
          f"{'  composed/kernel':>18}{'  PyTorch/kernel':>17}")  # fmt: skip
    found = {}
    all_jobs = {}
    for name, (kernel, arrays, keywords, call) in cases(rng).items():
        y = kernel(*arrays, **keywords)
        g = rng.normal(size=np.shape(y)).astype(np.float32)
        jobs = {
            "kernel": job(kernel, arrays, keywords, g),
            "composed": job(kernel.composed, arrays, keywords, g),
            "PyTorch": torch_job(torch, call, arrays, g),
        }
        (y, dy), *others = (run() for run in jobs.values())
        for z, dz in others:
            for a, b in zip([y, *dy], [z, *dz]):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4, err_msg=name)
        all_jobs[name] = jobs
    all_jobs["Adam, 50 parameters"] = adam_jobs(torch, rng)
    for name, jobs in all_jobs.items():
        if args.only and args.only not in name:
            continue
        times = medians(jobs, args.rounds, repeats=30)
        mine, composed, other = times.values()
        found[name] = (composed / mine, other / mine)
        print(f"{name:36}{composed * 1e6:9.0f}{mine * 1e6:9.0f}{other * 1e6:9.0f}"
              f"{composed / mine:18.2f}{other / mine:17.2f}")  # fmt: skip
    if args.figure:
        save_figure(chapter_05.plot_speedups(found), args.figure)


if __name__ == "__main__":
    main()
