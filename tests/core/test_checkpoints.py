"""Checkpoints: exact round trips, and what is left after a kill, a flipped bit or a full disk."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import utils.checkpoints
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.weights import load_weights, save_weights

ROOT = Path(utils.checkpoints.__file__).resolve().parents[1]


def names(folder):
    return sorted(child.name for child in folder.iterdir())


def save(folder, step, **options):
    """A small checkpoint that anybody can check: the array and the state hold the step."""
    arrays = {"w": np.full((2, 3), step, np.float32), "ids": np.arange(step % 5)}
    return save_checkpoint(folder, step, arrays, {"step": step}, **options)


def assert_is(checkpoint, step):
    assert checkpoint.step == step
    assert checkpoint.state == {"step": step}
    np.testing.assert_array_equal(checkpoint.arrays["w"], np.full((2, 3), step, np.float32))
    np.testing.assert_array_equal(checkpoint.arrays["ids"], np.arange(step % 5))


# Round trips


def test_arrays_and_state_come_back_exactly(tmp_path, rng):
    arrays = {
        "half": rng.standard_normal(5).astype(np.float16),
        "transposed": rng.standard_normal((3, 4)).T,
        "scalar": np.array(7, np.int8),
        "empty": np.zeros((0, 3), bool),
        "big-endian": np.arange(3, dtype=">f4"),
    }
    state = {
        "generator": rng.bit_generator.state,  # integers of 128 bits
        "floats": [0.1, 1e-323, -0.0, 1.7976931348623157e308],
        "text": 'quotes " and \\ and \n, кириллица, \ud800',
        "none": [None, True, {}],
    }
    path = save_checkpoint(tmp_path / "new" / "folder", 12, arrays, state)
    checkpoint = load_checkpoint(tmp_path / "new" / "folder")
    assert checkpoint.path == path and path.is_file()
    assert checkpoint.step == 12
    assert checkpoint.state == state
    assert math.copysign(1, checkpoint.state["floats"][2]) == -1
    assert set(checkpoint.arrays) == set(arrays)
    for name, array in arrays.items():
        assert checkpoint.arrays[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(checkpoint.arrays[name], array)

    again = np.random.default_rng()
    again.bit_generator.state = checkpoint.state["generator"]
    np.testing.assert_array_equal(again.random(9), rng.random(9))


def test_the_state_may_hold_nan_and_infinity(tmp_path):
    save_checkpoint(tmp_path, 0, {}, {"loss": math.nan, "best": math.inf, "worst": -math.inf})
    state = load_checkpoint(tmp_path).state
    assert math.isnan(state["loss"]) and state["best"] == math.inf and state["worst"] == -math.inf


def test_a_checkpoint_is_an_ordinary_weights_file(tmp_path):
    path = save(tmp_path, 3)
    assert set(load_weights(path)) == {"w", "ids"}


# Which checkpoints are kept, and which is loaded


def test_the_last_ones_are_kept_and_the_highest_step_is_loaded(tmp_path):
    for step in (1, 9, 10, 100_000_000, 11):  # not in the order of the alphabet
        save(tmp_path, step)
    assert [load_checkpoint(tmp_path, step).step for step in (10, 11, 100_000_000)]
    assert len(names(tmp_path)) == 3
    assert_is(load_checkpoint(tmp_path), 100_000_000)


def test_the_checkpoint_just_saved_is_kept_whatever_its_step(tmp_path):
    for step in (300, 400, 150):
        save(tmp_path, step, keep=1)
    assert_is(load_checkpoint(tmp_path, 150), 150)
    assert_is(load_checkpoint(tmp_path), 400)


def test_saving_a_step_again_replaces_it(tmp_path):
    save_checkpoint(tmp_path, 5, {"w": np.zeros(3)}, "first")
    save_checkpoint(tmp_path, 5, {"w": np.ones(3)}, "second")
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.state == "second" and checkpoint.arrays["w"].sum() == 3
    assert len(names(tmp_path)) == 1


def test_files_of_others_are_left_alone(tmp_path):
    strangers = [".notes.tmp", "step-1.safetensors", "step-x.safetensors", "w.safetensors"]
    for name in strangers:
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "step-00000099.safetensors").mkdir()
    for step in range(5):
        save(tmp_path, step, keep=1)
    assert_is(load_checkpoint(tmp_path), 4)
    kept = ["step-00000004.safetensors", "step-00000099.safetensors"]
    assert names(tmp_path) == sorted(strangers + kept)


def test_a_stale_temporary_file_is_removed(tmp_path):
    (tmp_path / ".step-00000001.safetensors.0123456789abcdef.tmp").write_bytes(b"half")
    save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000002.safetensors"]


def test_nothing_to_load(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder .*absent"):
        load_checkpoint(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="there is none"):
        load_checkpoint(tmp_path)
    save(tmp_path, 2)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 3 in .*steps: \[2\]"):
        load_checkpoint(tmp_path, 3)


@pytest.mark.parametrize(
    "step, arrays, state, keep, words",
    [
        (-1, {}, None, 3, "step must be a whole number from 0 up, not -1"),
        (1.0, {}, None, 3, "step must be a whole number"),
        (float("nan"), {}, None, 3, "step must be a whole number"),
        (1, {}, None, 0, "keep must be a whole number from 1 up, not 0"),
        (1, {}, {"rng": np.random.default_rng()}, 3, "Generator is not JSON"),
        (1, {}, {"w": np.zeros(3)}, 3, "ndarray is not JSON"),
        (1, {}, {"n": np.int64(3)}, 3, "int64 is not JSON"),
        (1, {}, {(1, 2): 3}, 3, "keys must be str"),
        (1, {}, {1, 2}, 3, "set is not JSON"),
        (1, {"w": np.array([{}])}, None, 3, "'w' is object"),
        (1, {3: np.zeros(2)}, None, 3, "cannot be named 3"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path, step, arrays, state, keep, words
):
    save(tmp_path, 1)
    with pytest.raises(ValueError, match=words):
        save_checkpoint(tmp_path, step, arrays, state, keep)
    assert_is(load_checkpoint(tmp_path), 1)
    assert len(names(tmp_path)) == 1


def test_a_state_that_holds_itself_is_refused(tmp_path):
    state = []
    state.append(state)
    with pytest.raises(ValueError, match="must be JSON: Circular"):
        save_checkpoint(tmp_path, 1, {}, state)


# Damage


def test_any_flipped_bit_is_found(tmp_path, rng):
    save(tmp_path, 1)
    path = save(tmp_path, 3)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match="skipped a damaged checkpoint: .*step-00000003"):
            assert_is(load_checkpoint(tmp_path), 1)
        with pytest.raises(ValueError, match="step-00000003"):
            load_checkpoint(tmp_path, 3)


def test_any_truncation_is_found(tmp_path):
    save(tmp_path, 1)
    path = save(tmp_path, 3)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.warns(UserWarning, match="skipped a damaged checkpoint: .*step-00000003"):
            assert_is(load_checkpoint(tmp_path), 1)


def test_each_damaged_file_is_named_with_its_reason(tmp_path):
    paths = [save(tmp_path, step, keep=9) for step in range(5)]
    paths[4].write_bytes(paths[4].read_bytes()[:-1])
    paths[3].write_bytes(paths[2].read_bytes())
    save_weights(paths[2], {"w": np.zeros(3)})
    flipped = bytearray(paths[1].read_bytes())
    flipped[-1] ^= 1
    paths[1].write_bytes(flipped)
    with pytest.warns(UserWarning) as caught:
        assert_is(load_checkpoint(tmp_path), 0)
    reasons = ["truncated", "of step 2, renamed", "lacks manifest, state", "SHA-256 manifest"]
    assert len(caught) == len(reasons)
    for warning, path, reason in zip(caught, reversed(paths), reasons):
        message = str(warning.message)
        assert str(path) in message and reason in message and "\n" not in message


def test_only_damaged_files(tmp_path):
    save(tmp_path, 1).write_bytes(b"")
    with pytest.warns(UserWarning, match="step-00000001"), pytest.raises(
        FileNotFoundError, match="no valid checkpoint in .*: all 1 are damaged"
    ):
        load_checkpoint(tmp_path)


# A full disk


# A limit on the size of files fails a write where a full disk would, without filling a disk.
FULL_DISK = """
import resource, sys
import numpy as np
from utils.checkpoints import save_checkpoint
arrays = {"w": np.zeros(50_000), "v": np.zeros(50_000)}
for limit in [0, 1, 8, 100, 500, *range(1_000, 800_000, 40_000)]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save_checkpoint(sys.argv[1], 2, arrays, None, keep=1)
    except OSError:
        continue
    sys.exit(f"saved 800,000 bytes under a limit of {limit}")
"""


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_full_disk_at_any_write_leaves_the_old_one(tmp_path):
    save(tmp_path, 1)
    subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], cwd=ROOT, check=True)
    assert names(tmp_path) == ["step-00000001.safetensors"]
    assert_is(load_checkpoint(tmp_path), 1)


# Several savers, and loaders beside them


def test_savers_and_loaders_at_once(tmp_path):
    save(tmp_path, 0, keep=1)
    problems = []
    done = threading.Event()

    def saver(start):
        try:
            for step in range(start, 60, 2):
                save(tmp_path, step, keep=1)
        except Exception as error:  # noqa: BLE001
            problems.append(error)

    def loader():
        try:
            while not done.is_set():
                checkpoint = load_checkpoint(tmp_path)
                assert_is(checkpoint, checkpoint.step)
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    savers = [threading.Thread(target=saver, args=(start,)) for start in (0, 1)]
    loaders = [threading.Thread(target=loader) for _ in range(2)]
    for thread in savers + loaders:
        thread.start()
    for thread in savers:
        thread.join()
    done.set()
    for thread in loaders:
        thread.join()
    assert not problems
    assert_is(load_checkpoint(tmp_path), 59)
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]


def test_a_loader_looks_again_when_a_saver_was_faster(tmp_path, monkeypatch):
    save(tmp_path, 2)
    real_steps = utils.checkpoints._steps
    listings = [[], [1]]  # taken before step 2 had its name; taken before step 1 was removed
    monkeypatch.setattr(
        utils.checkpoints,
        "_steps",
        lambda folder: listings.pop(0) if listings else real_steps(folder),
    )
    assert_is(load_checkpoint(tmp_path), 2)


def test_without_locks_nothing_of_another_saver_is_removed(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="locks are POSIX")

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    temporary = tmp_path / ".step-00000001.safetensors.0123456789abcdef.tmp"
    temporary.write_bytes(b"half")
    save(tmp_path, 2)
    assert_is(load_checkpoint(tmp_path), 2)
    assert temporary.exists()


# Forks a saver for each line that it reads, since a new interpreter would cost more than a kill. A
# saver reports each step that has been saved, so that the test knows what must still be there.
NURSERY = """
import os, sys
import numpy as np
from utils.checkpoints import save_checkpoint
for line in sys.stdin:
    step = int(line)
    pid = os.fork()
    while pid == 0:
        arrays = {"w": np.full(40_000, step, np.float32), "v": np.full(1_000, step)}
        save_checkpoint(sys.argv[1], step, arrays, {"step": step})
        os.write(1, b"%d\\n" % step)
        step += 1
    os.write(1, b"pid %d\\n" % pid)
    os.waitpid(pid, 0)
    os.write(1, b"dead\\n")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="savers are forked")
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_the_newest_checkpoint_loads_after_a_kill(tmp_path, rng, kills):
    nursery = subprocess.Popen(
        [sys.executable, "-c", NURSERY, tmp_path],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a fork of one thread is safe
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        universal_newlines=True,
    )
    step, halves = 0, 0
    with nursery:
        for _ in range(kills):
            print(step, file=nursery.stdin, flush=True)
            words = nursery.stdout.readline().split()
            saved = []
            while words[0] != "pid":  # the saver may report first
                saved.append(int(words[0]))
                words = nursery.stdout.readline().split()
            time.sleep(rng.uniform(0, 0.05))
            os.kill(int(words[1]), signal.SIGKILL)
            saved += [int(line) for line in iter(nursery.stdout.readline, "dead\n")]
            halves += any(name.endswith(".tmp") for name in names(tmp_path))
            if not (saved or step):
                continue  # killed before the first checkpoint of all
            checkpoint = load_checkpoint(tmp_path)  # a warning of damage would fail the test
            assert checkpoint.step >= max(saved, default=step - 1)
            assert checkpoint.state == {"step": checkpoint.step}
            assert (checkpoint.arrays["w"] == checkpoint.step).all()
            assert (checkpoint.arrays["v"] == checkpoint.step).all()
            step = checkpoint.step + 1
        nursery.stdin.close()
    assert step > kills, "the savers hardly ran: the kills came too early to show anything"
    assert kills < 50 or halves > kills // 10, "the kills hardly ever hit a file being written"
    save(tmp_path, step)
    assert len(names(tmp_path)) == 3, "a killed saver's temporary file is still there"
