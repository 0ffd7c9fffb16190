"""The table of parameters: every one once, numbers that add up, columns that align."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest

from chapter_03_neural_nets import (
    MLP,
    Embedding,
    Linear,
    Module,
    Parameter,
    ReLU,
    Sequential,
    count_parameters,
    summary,
)


def test_the_example_in_the_docstring():
    # The function hides the module of the same name.
    module = importlib.import_module("chapter_03_neural_nets.summary")
    failed, tried = doctest.testmod(module)
    assert tried > 0 and failed == 0


def test_counts_by_hand():
    model = MLP([784, 256, 128, 10])
    assert count_parameters(model) == 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10 == 235_146
    model[1].weight.requires_grad = False
    assert count_parameters(model, trainable_only=True) == 235_146 - 784 * 256
    assert count_parameters(model) == 235_146 and count_parameters(ReLU()) == 0


def test_what_is_shared_counts_once():
    net = Sequential(Embedding(5, 3), Linear(3, 5, bias=False))
    net[1].weight = net[0].weight
    assert count_parameters(net) == 15
    assert summary(net).count("weight") == 1


def test_every_parameter_has_a_row_and_the_last_row_is_the_sum():
    model = MLP([784, 256, 10])
    *rows, total = summary(model).splitlines()
    assert [row.split()[0] for row in rows] == [name for name, _ in model.named_parameters()]
    shapes = [row[row.index(row.split()[1]) :].rsplit(None, 1)[0].strip() for row in rows]
    assert shapes == ["256 x 784", "256", "10 x 256", "10"]
    counts = [int(row.split()[-1].replace(",", "")) for row in rows]
    assert counts == [p.size for p in model.parameters()]
    assert total.split() == ["MLP", f"{sum(counts):,}", "parameters"]
    ends = {row.rindex(row.split()[-1]) + len(row.split()[-1]) for row in rows}
    assert ends == {total.index(" parameters")}, "the numbers end in one column"


def test_frozen_parameters_say_so():
    model = Linear(3, 2)
    model.weight.requires_grad = False
    weight, bias, total = summary(model).splitlines()
    assert weight.endswith("6  frozen") and "frozen" not in bias + total
    assert weight.index("6") == bias.rindex("2") == total.index("8")


class Scalars(Module):
    def __init__(self):
        super().__init__()
        self.temperature = Parameter(np.array(1.0))
        self.nothing = Parameter(np.zeros((0, 4)))
        self.large = Parameter(np.zeros((1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1)))


@pytest.mark.parametrize("model, total", [(ReLU(), 0), (Sequential(), 0), (Scalars(), 1 + 40_320)])
def test_models_without_parameters_and_with_odd_ones(model, total):
    lines = summary(model).splitlines()
    assert lines[-1].split()[-2:] == [f"{total:,}", "parameters"]
    assert all(line == line.rstrip() for line in lines)
