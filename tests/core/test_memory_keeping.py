"""Whether freed memory stays with the process, seen from the pages that it touches anew."""

from __future__ import annotations

import subprocess
import sys

import pytest

from utils.memory import keep_memory

PROGRAM = """
import resource, sys
import numpy as np
from utils.memory import keep_memory

if sys.argv[1] == "keep":
    print(keep_memory())

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        a = np.ones(2_000_000, np.float32)
        b = a + 1
        del a, b
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(3)
print(faults(20))
"""


def run(how: str) -> list:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_arrays_get_the_same_pages_again():
    if not keep_memory():
        pytest.skip("this C library is not glibc")
    worked, kept = run("keep")
    assert worked == "True"
    assert int(kept) < 400, "20 rounds of two arrays of 8 MB touched new pages"
