"""The most memory that the training step of gpt.py takes: ours beside PyTorch's.

Each side runs in a process of its own; what counts is its peak less what the imports took.

python tests/benchmarks/gpt_memory.py
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

STEPS = 20


def peak() -> float:
    """The most MiB that this process has held so far."""
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        / (1 if sys.platform == "linux" else 1024)
        / 1024
    )


def run_side(side: str, batch: int) -> float:
    """MiB above what the imports took, after some steps."""
    import numpy as np
    from gpt import RATES, SHAPES, our_step, torch_step  # noqa: F401
    from interleaved import need

    from chapter_07_attention import GPT, GPTConfig
    from utils.memory import keep_memory

    torch = need("torch") if side == "PyTorch" else None
    keep_memory()
    before = peak()
    config = GPTConfig(*SHAPES[False])
    rng = np.random.default_rng(0)
    ids, targets = (rng.integers(config.vocab_size, size=(batch, config.block_size)) for _ in "ab")
    if torch is None:
        _, step = our_step(config, ids, targets, threads=2)
    else:
        torch.set_num_threads(2)
        state = GPT(config, rng=rng).state_dict()
        step = torch_step(torch, config, state, ids, targets)
    for _ in range(STEPS):
        step()
    return peak() - before


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=["ours", "PyTorch"], help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=12)
    args = parser.parse_args(argv)
    if args.side:
        print(run_side(args.side, args.batch))
        return
    found = {}
    for side in ("ours", "PyTorch"):
        command = [sys.executable, __file__, "--side", side, "--batch", str(args.batch)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:  # it has said why
            raise SystemExit(done.returncode)
        found[side] = float(done.stdout)
        print(f"  {side:8}{found[side]:8.1f} MiB above its imports")
    print(f"  ours / PyTorch = {found['ours'] / found['PyTorch']:.2f}")


if __name__ == "__main__":
    main()
