"""A training killed again and again with SIGKILL ends, bit for bit, as if it never had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import chapter_03_neural_nets
from utils.weights import load_weights

ROOT = Path(chapter_03_neural_nets.__file__).resolve().parents[1]

# A small network with dropout from the default generator and from one of its own; at the end,
# everything that a step changes is written down. "ready" says when the steps begin.
SCRIPT = """
import json, sys
import numpy as np
from chapter_03_neural_nets import *
from utils import manual_seed
from utils.seeding import generator_state
from utils.weights import save_weights

checkpoint, result = sys.argv[1:]
manual_seed(1)
rng = np.random.default_rng(2)
data = np.random.default_rng(3)
x, y = data.normal(size=(300, 8)).astype(np.float32), data.integers(4, size=300)
own = Dropout(0.3, rng)
model = Sequential(MLP([8, 32, 32], dropout=0.2), own, Linear(32, 4))
batches = Batches(x, y, batch_size=37, rng=np.random.default_rng(4))
optimizer = AdamW(model.parameters(), lambda step: 0.01 / (1 + step / 100))
print("ready", flush=True)
history = train(
    model, optimizer, batches, 400, evaluate=lambda m: evaluate(m, x, y), evaluate_every=70,
    keep_best=True, checkpoint=checkpoint, checkpoint_every=9,
)
arrays = {f"model.{k}": v for k, v in model.state_dict().items()}
arrays.update({f"optimizer.{k}": v for k, v in optimizer.state_dict().items()})
arrays["losses"] = np.array(history.losses)
state = {
    "generators": [generator_state(), generator_state(rng), generator_state(batches.rng)],
    "place": batches.state_dict(), "evaluations": history.evaluations, "best": history.best,
}
save_weights(result, {**arrays, "state": np.frombuffer(json.dumps(state).encode(), np.uint8)})
"""


def start(folder):
    """The process, when its steps are about to begin."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, folder / "checkpoints", folder / "result"],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        universal_newlines=True,
    )
    assert process.stdout.readline() == "ready\n", "the script did not get to its first step"
    return process


def result(folder):
    arrays = load_weights(folder / "result")
    return arrays, json.loads(arrays["state"].tobytes().decode())


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_it_ends_the_same(tmp_path, rng):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    process = start(whole)
    begun = time.monotonic()
    assert process.wait() == 0
    seconds = time.monotonic() - begun
    process.stdout.close()

    kills = 0
    places = set()
    while True:
        with start(pieces) as process:
            try:
                # About ten pieces, if each lost nothing.
                process.wait(rng.uniform(0, seconds / 5) if kills < 12 else None)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
        if process.returncode == 0:
            break
        assert process.returncode < 0, "the resumed run failed by itself"
        places.update(path.name for path in (pieces / "checkpoints").glob("step-*"))
    assert kills >= 3 and len(places) >= 3, "the kills came too late or too early to show anything"

    (expected, expected_state), (found, found_state) = result(whole), result(pieces)
    assert found_state == expected_state
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        assert found[name].dtype == expected[name].dtype
    assert len(found["losses"]) == 400 and len(found_state["evaluations"]) == 6
