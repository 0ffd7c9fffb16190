"""Nothing in the table of derivatives, and no composition, is without a test."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from utils import Tensor
from utils.compositions import compositions
from utils.derivatives import derivatives

REQUIRED = """
add subtract multiply divide power negative exp expm1 exp2 log log2 log10 log1p sin cos
tan arcsin arccos arctan arctan2 sinh cosh tanh arcsinh arccosh arctanh abs sign sqrt
square maximum minimum clip where sum mean var std prod max min cumsum logaddexp reshape
transpose swapaxes moveaxis squeeze expand_dims broadcast_to concatenate stack split pad
flip roll tile repeat take sort matmul dot tensordot einsum outer trace diag tril triu
linalg.norm linalg.inv linalg.solve linalg.det linalg.slogdet linalg.cholesky
"""


@pytest.fixture(scope="module")
def tested():
    """What the files beside this one say that they test."""
    found = set()
    for path in sorted(Path(__file__).parent.glob("test_derivatives_*.py")):
        if path != Path(__file__):
            spec = importlib.util.spec_from_file_location(f"tested_{path.stem}", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            found |= set(module.TESTED)
    return found


@pytest.mark.parametrize("table", [derivatives, compositions], ids=["derivatives", "compositions"])
def test_every_entry_has_a_test(table, tested):
    lacking = sorted(function.__name__ for function in table if function not in tested)
    assert not lacking, f"no test in tests/core/test_derivatives_*.py for {lacking}"


@pytest.mark.parametrize("name", REQUIRED.split())
def test_the_table_covers(name):
    module, _, last = name.rpartition(".")
    function = getattr(getattr(np, module) if module else np, last)
    assert function in derivatives or function in compositions


def test_tests_of_functions_that_are_gone_are_noticed(tested):
    unknown = [f.__name__ for f in tested if f not in derivatives and f not in compositions]
    assert not unknown, f"tested, but in neither table: {unknown}"


@pytest.mark.parametrize(
    "name",
    [
        "sinc",
        "interp",
        "convolve",
        "unwrap",
        "nanmax",
        "linalg.qr",
        "linalg.eig",
        "fft.fft",
    ],
)
def test_a_function_without_a_rule_says_so(name):
    module, _, last = name.rpartition(".")
    function = getattr(getattr(np, module) if module else np, last)
    x = Tensor(np.eye(3), requires_grad=True)
    args = (x[0], x[0], x[0]) if name == "interp" else (x[0], x[0]) if name == "convolve" else (x,)
    with pytest.raises(
        TypeError, match=f"{last}.*(no derivative|without a rule)|drop the gradient"
    ):
        function(*args)
