"""What is too large is said at once, and how long a rank of MPI waits is the user's to say."""

from __future__ import annotations

import math

import pytest
from refusals import refused

from chapter_07_attention import GPTConfig
from chapter_09_scaling import (
    MPICommunicator,
    SingleProcess,
    backends,
    data_parallel,
    limits,
    long_context,
    save_memory,
    simulate_cluster,
    train_pipeline,
    zero,
)
from chapter_09_scaling.accounting import activation_bytes, model_state_bytes, parameters
from chapter_09_scaling.simulator import divisors

SMALL = GPTConfig(65, 16, 2, 2, 16)
NEEDED = model_state_bytes(parameters(SMALL)) + activation_bytes(SMALL, 3, 16)


def test_the_limit_is_what_the_formulas_say(monkeypatch):
    monkeypatch.setattr(limits, "machine_bytes", lambda: NEEDED)
    limits.check_training(SMALL, 3)
    monkeypatch.setattr(limits, "machine_bytes", lambda: NEEDED - 1)
    with pytest.raises(ValueError, match=r"parameters on 3 texts of 16 tokens takes .*GiB at the"):
        limits.check_training(SMALL, 3)
    monkeypatch.setattr(limits, "machine_bytes", lambda: None)
    limits.check_training(SMALL, 10**9)  # a system that does not tell


def test_a_machine_that_does_not_tell(monkeypatch):
    assert limits.machine_bytes() is None or limits.machine_bytes() > 1 << 28
    monkeypatch.delattr(limits.os, "sysconf", raising=False)
    assert limits.machine_bytes() is None


HUGE = [
    (zero.main, "--ranks 100000", "--ranks: must be from 1 to 16"),
    (zero.main, "--layers 1000000000", "--layers: must be from 1 to 1000"),
    (zero.main, "--layers 1000 --width 16384", "GiB at the least, and this machine has"),
    (data_parallel.main, "--batch 65536 --context 4096", "on 65,536 texts of 4,096 tokens"),
    (train_pipeline.main, "--micro-batches 100000", "--micro-batches: must be from 1 to 1024"),
    (save_memory.main, "--layers 1000 --width 16384", "give smaller sizes"),
    (long_context.main, "--lengths 256 1000000", "naive attention over 1,000,000 tokens"),
    (simulate_cluster.main, "--gpus 100000000", "--gpus: must be from 1 to 1000000"),
]


@pytest.mark.parametrize("main, arguments, said", HUGE, ids=[case[1] for case in HUGE])
def test_what_no_machine_holds_is_refused_before_it_is_begun(
    main, arguments, said, tmp_path, capsys
):
    message, printed = refused(main, ["--out", str(tmp_path), *arguments.split()], capsys)
    assert said in message and printed == ""


def test_divisors():
    assert divisors(1) == [1] and divisors(36) == [1, 2, 3, 4, 6, 9, 12, 18, 36]
    for n in range(1, 200):
        assert divisors(n) == [i for i in range(1, n + 1) if n % i == 0]


# Patience.


@pytest.mark.parametrize("patience", [0, -1, math.nan])
def test_patience_is_above_0(patience):
    with pytest.raises(ValueError, match="patience is a number of seconds above 0"):
        MPICommunicator(patience=patience)


def test_run_hands_patience_on(monkeypatch):
    class Group(SingleProcess):
        def __init__(self, patience):
            super().__init__()
            self.patience, self.closed = patience, False

        def close(self):
            self.closed = True

    def work(comm):
        comm.close()  # what comes back travels over another group, as patient as this one
        return comm.patience

    made = []
    monkeypatch.setattr(
        backends, "MPICommunicator", lambda patience: made.append(patience) or Group(patience)
    )
    assert backends.run(work, "mpi", 1, patience=7.5) == [7.5]
    assert made == [7.5, 7.5]


def test_a_script_takes_it(tmp_path, capsys):
    message, _ = refused(zero.main, ["--out", str(tmp_path), "--patience", "nan"], capsys)
    assert "--patience: must be" in message and "above 0" in message
