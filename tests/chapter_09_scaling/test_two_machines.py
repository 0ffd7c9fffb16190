"""Two networks joined by one link, as two machines are: what crosses it is what was predicted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chapter_09_scaling.traffic import ring_all_reduce_bytes

SUPPORT = Path(__file__).resolve().parents[1] / "support"
# So that MPI goes over the network although both ranks are on one machine.
OVER_TCP = {"MPICH_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp", "MPIR_CVAR_NOLOCAL": "1"}


def ip(*arguments):
    command = ["ip", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def networks():
    """Two network namespaces, and a virtual cable between them."""
    if shutil.which("ip") is None:
        pytest.skip("two networks on one machine are made by `ip` (Debian: iproute2), not found")
    names = [f"dlfp{os.getpid()}{end}" for end in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", names[0], "type", "veth",
           "peer", "name", "cable", "netns", names[1])  # fmt: skip
        for i, name in enumerate(names):
            ip("-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        begin = time.monotonic()
        # New addresses of version 6 are on trial for a second or two, and fail those who use them.
        while any(ip("-n", name, "addr", "show", "tentative") for name in names):
            assert time.monotonic() - begin < 20, "the link does not come up"
            time.sleep(0.1)
        yield names
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine lets nobody make networks: {error.stderr.strip()}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_the_bytes_that_cross_the_link_are_those_predicted(networks):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: see the extra distributed")
    mpiexec = shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("mpiexec is not found: see the extra distributed")
    rank = [sys.executable, "-m", "mpi4py", str(SUPPORT / "two_machines.py")]
    command = [mpiexec]
    for name in networks:
        command += ["-n", "1", "ip", "netns", "exec", name, *rank, ":"]
    environment = {**os.environ, **OVER_TCP, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command[:-1], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    for result in results:
        predicted = 10 * ring_all_reduce_bytes(result["parameters"], 4, 2)
        assert result["alike"], "two machines train one model"
        assert result["crossed"] == pytest.approx(
            predicted, rel=0.1
        ), "the link carried another number of bytes than 2 (N - 1) / N of the gradients a step"
