"""Whole networks beside PyTorch's with the same weights: the output, every gradient, statistics."""

from __future__ import annotations

import numpy as np
import pytest

import chapter_06_hierarchical as chapter_06
from utils import Tensor

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: install the oracle extra, pip install -e .[oracle]"
)
nn, F = torch.nn, torch.nn.functional

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
DTYPES = [np.float32, np.float64]
IDS = np.random.default_rng(7).integers(6, size=(3, 8))


def convolved(before, after, kernel, **options):
    return nn.Conv2d(before, after, kernel, bias=False, **options), nn.BatchNorm2d(after)


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.module = nn.Sequential(
            *convolved(before, after, 3, stride=stride, padding=1),
            nn.ReLU(),
            *convolved(after, after, 3, padding=1),
        )
        self.shortcut = nn.Identity()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(*convolved(before, after, 1, stride=stride))

    def forward(self, x):
        return F.relu(self.shortcut(x) + self.module(x))


def pooled(channels, classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(*convolved(2, 4, 3, padding=1), nn.ReLU())
        self.stages = nn.Sequential(
            nn.Sequential(Block(4, 4, 1), Block(4, 4, 1)),
            nn.Sequential(Block(4, 6, 2), Block(6, 6, 1)),
        )
        self.head = pooled(6, 5)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))


class SeparableNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(*convolved(2, 4, 3, padding=1), nn.ReLU())
        for before, after, stride in ((4, 6, 2), (6, 6, 1)):
            where = convolved(before, before, 3, stride=stride, padding=1, groups=before)
            what = convolved(before, after, 1)
            self.features.append(nn.Sequential(*where, nn.ReLU(), *what, nn.ReLU()))
        self.head = pooled(6, 5)

    def forward(self, x):
        return self.head(self.features(x))


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
            nn.Linear(84, 5),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.features(x))


class GatedBlock(nn.Module):
    def __init__(self, dilation):
        super().__init__()
        self.dilation = dilation
        self.seen = nn.Conv1d(4, 8, 2, dilation=dilation)
        self.mix = nn.Conv1d(4, 8, 1)

    def forward(self, x):
        seen, gate = self.seen(F.pad(x, (self.dilation, 0))).chunk(2, dim=1)
        more, skip = self.mix(torch.tanh(seen) * torch.sigmoid(gate)).chunk(2, dim=1)
        return x + more, skip


class WaveNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.blocks = nn.ModuleList(GatedBlock(d) for d in (1, 2, 4))
        self.hidden, self.head = nn.Linear(4, 4), nn.Linear(4, 6)

    def forward(self, ids):
        x, said = self.embedding(ids).transpose(1, 2), 0
        for block in self.blocks:
            x, skip = block(x)
            said = said + skip
        return self.head(F.relu(self.hidden(F.relu(said).transpose(1, 2))))


class HierarchicalNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 3)
        self.linears = nn.ModuleList(nn.Linear(2 * n, 5, bias=False) for n in (3, 5, 5))
        self.norms = nn.ModuleList(nn.BatchNorm1d(5) for _ in range(3))
        self.head = nn.Linear(5, 6)

    def forward(self, ids):
        x = self.embedding(ids)
        for linear, norm in zip(self.linears, self.norms):
            x = linear(x.reshape(len(x), x.shape[1] // 2, -1))
            x = torch.tanh(norm(x.transpose(1, 2)).transpose(1, 2))
        return self.head(x[:, 0])


class RecurrentModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.chain = nn.GRU(4, 4, num_layers=2, batch_first=True)
        self.head = nn.Linear(4, 6)

    def forward(self, ids):
        return self.head(self.chain(self.embedding(ids))[0])


# Ours, PyTorch's, and the shape of the pictures; None stands for IDS.
NETWORKS = {
    "LeNet5": (lambda: chapter_06.LeNet5(5), LeNet5, (4, 1, 28, 28)),
    "ResNet": (lambda: chapter_06.ResNet(5, (4, 6), in_channels=2), ResNet, (4, 2, 9, 8)),
    "SeparableNet": (
        lambda: chapter_06.SeparableNet(5, (4, 6, 6), in_channels=2), SeparableNet, (4, 2, 9, 8),
    ),
    "WaveNet": (lambda: chapter_06.WaveNet(6, 4, (1, 2, 4)), WaveNet, None),
    "HierarchicalNet": (
        lambda: chapter_06.HierarchicalNet(6, 8, embedding_dim=3, hidden=5), HierarchicalNet, None,
    ),
    "RecurrentModel": (
        lambda: chapter_06.RecurrentModel(6, 4, 2, network=chapter_06.GRU), RecurrentModel, None,
    ),
}  # fmt: skip


def near(found, expected, what):
    expected = expected.detach().numpy()
    assert found.dtype == expected.dtype and found.shape == expected.shape, what
    scale, tolerance = max(np.abs(expected).max(initial=0), 1), TOLERANCE.get(found.dtype.name, 0)
    np.testing.assert_allclose(found / scale, expected / scale, 0, tolerance, err_msg=what)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_gradients_and_statistics(name, dtype, rng):
    """Two passes in training, one in evaluation; strict loading of the state both ways."""
    make, kind, shape = NETWORKS[name]
    ours, theirs = make().astype(dtype), kind().to(getattr(torch, np.dtype(dtype).name))
    for p in ours.parameters():  # nothing is to begin as nothing
        p.data[...] = rng.normal(size=p.shape) / max(p[0].size, 1) ** 0.5
    state = {k: torch.tensor(v) for k, v in ours.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    for training in (True, True, False):
        ours.train(training), theirs.train(training)
        ours.zero_grad(), theirs.zero_grad()
        x, x_theirs = IDS, torch.tensor(IDS)
        if shape is not None:
            pictures = rng.normal(size=shape).astype(dtype)
            x = Tensor(pictures, requires_grad=True)
            x_theirs = torch.tensor(pictures, requires_grad=True)
        y, expected = ours(x), theirs(x_theirs)
        near(y.data, expected, f"the output of {name}")
        g = rng.normal(size=y.shape).astype(dtype)
        y.backward(g), expected.backward(torch.tensor(g))
        if shape is not None:
            near(x.grad, x_theirs.grad, f"the pictures' gradient in {name}")
        for (key, p), q in zip(ours.named_parameters(), theirs.parameters()):
            near(p.grad, q.grad, f"the gradient of {key} in {name}")
    for key, value in theirs.state_dict().items():
        near(ours.state_dict()[key], value, f"{key} of {name} after two passes")
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
