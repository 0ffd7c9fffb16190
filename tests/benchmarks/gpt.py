"""One training step of a GPT, forward, backward and AdamW: ours beside PyTorch's eager mode.

python tests/benchmarks/gpt.py            4 layers of width 128, context 64, batch 12
python tests/benchmarks/gpt.py --tiny     1 layer of width 16, context 16, batch 1
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from interleaved import compare, need, training_step

from chapter_05_gradient_mastery import AdamW, cross_entropy, in_threads
from chapter_07_attention import GPT, GPTConfig
from utils.memory import keep_memory

SHAPES = {False: (65, 64, 4, 4, 128), True: (65, 16, 1, 4, 16)}  # of GPTConfig, by --tiny
RATES = {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1}


def our_step(config: GPTConfig, ids: np.ndarray, targets: np.ndarray, threads: int = 1):
    model = GPT(config, rng=np.random.default_rng(0))
    optimizer = AdamW(model.parameters(), **RATES)
    loss_of = in_threads(lambda model, ids, targets: cross_entropy(model(ids), targets), threads)

    return model, training_step(optimizer, lambda: loss_of(model, ids, targets))


def torch_step(torch, config: GPTConfig, state: dict, ids: np.ndarray, targets: np.ndarray):
    """The same model in PyTorch's parts, with the same weights."""
    F, nn = torch.nn.functional, torch.nn

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            size, self.heads = config.n_embd, config.n_head
            self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
            self.in_proj, self.out_proj = nn.Linear(size, 3 * size), nn.Linear(size, size)
            self.linear1, self.linear2 = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)

        def forward(self, x):
            batch, time, size = x.shape
            parts = self.in_proj(self.norm1(x)).split(size, dim=2)
            q, k, v = (a.view(batch, time, self.heads, -1).transpose(1, 2) for a in parts)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out_proj(y.transpose(1, 2).reshape(batch, time, size))
            hidden = F.gelu(self.linear1(self.norm2(x)), approximate="tanh")
            return x + self.linear2(hidden)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
            self.positions = nn.Embedding(config.block_size, config.n_embd)
            self.layers = nn.ModuleList(Layer() for _ in range(config.n_layer))
            self.norm = nn.LayerNorm(config.n_embd)
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids):
            x = self.embedding(ids) + self.positions.weight[: ids.shape[1]]
            for layer in self.layers:
                x = layer(x)
            return self.head(self.norm(x))

    model = Model()
    renamed = {
        k.replace("self_attn.", "").replace("in_proj_", "in_proj."): v for k, v in state.items()
    }
    model.load_state_dict({k: torch.tensor(v) for k, v in renamed.items()})
    optimizer = torch.optim.AdamW(model.parameters(), **RATES)
    ids, targets = torch.tensor(ids), torch.tensor(targets).flatten()

    return training_step(optimizer, lambda: F.cross_entropy(model(ids).flatten(0, 1), targets))


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's; for NumPy's set "
                        "OPENBLAS_NUM_THREADS to the same")  # fmt: skip
    args = parser.parse_args(argv)
    torch = need("torch")
    keep_memory()
    torch.set_num_threads(args.threads)
    config = GPTConfig(*SHAPES[args.tiny])
    rng = np.random.default_rng(0)
    shape = (args.batch or (1 if args.tiny else 12), config.block_size)
    ids, targets = (rng.integers(config.vocab_size, size=shape) for _ in range(2))
    model, one_graph = our_step(config, ids, targets)
    state = {name: array.copy() for name, array in model.state_dict().items()}
    jobs = {"ours": one_graph, "PyTorch": torch_step(torch, config, state, ids, targets)}
    if len(ids) > 1:
        _, in_parts = our_step(config, ids, targets, args.threads)
        jobs = {f"ours, {args.threads} threads": in_parts, **jobs}
    losses = [[step() for _ in range(5)] for step in jobs.values()]
    if np.ptp(losses, axis=0).max() > 1e-3:
        sys.exit(f"they disagree: losses {losses}")
    title = f"GPT {config.n_layer} x {config.n_embd}, context {config.block_size}, batch {shape[0]}"
    compare(title, jobs, args.rounds, 20 if args.tiny else 3)


if __name__ == "__main__":
    main()
