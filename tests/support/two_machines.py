"""Two ranks train a GPT, each in a network of its own, and count what crosses the link.

Run by `test_two_machines.py` under mpiexec; prints a line of JSON.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from chapter_03_neural_nets import Batches, train
from chapter_05_gradient_mastery import AdamW
from chapter_07_attention import GPT, GPTConfig
from chapter_09_scaling import DataParallel, SharedBatches, run, shared

STEPS = 10


def link_bytes() -> int:
    """What all links of this network but the loopback have sent."""
    lines = [line.split(":") for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    return sum(int(fields.split()[8]) for name, fields in lines if name.strip() != "lo")


def work(comm):
    rng = np.random.default_rng(0)
    model = GPT(GPTConfig(65, 16, 4, 4, 64), rng=rng)
    parallel = DataParallel(comm, model)
    ids = rng.integers(65, size=(100, 17))
    batches = SharedBatches(Batches(ids[:, :-1], ids[:, 1:], batch_size=8, rng=rng), comm)
    comm.barrier()
    before = link_bytes()
    train(model, AdamW(model.parameters(), 1e-3), batches, STEPS, loss=shared(),
          before_step=[parallel.synchronize])  # fmt: skip
    comm.barrier()
    crossed = link_bytes() - before
    own = np.concatenate([p.data.reshape(-1) for p in model.parameters()])
    return {
        "crossed": crossed,
        "parameters": own.size,
        "alike": bool((comm.broadcast(own) == own).all()),
        "network": sorted(path.name for path in Path("/sys/class/net").glob("*")),
    }


if __name__ == "__main__":
    results = run(work, "mpi", 2)
    if results is not None:
        print(json.dumps(results), flush=True)
