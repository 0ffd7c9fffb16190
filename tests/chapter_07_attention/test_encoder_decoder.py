"""The transformer of 2017: padding counts for nothing, and writing is one guess after another."""

from __future__ import annotations

import numpy as np
import pytest
from torch_twins import NO_TORCH, near, same_parameters

from chapter_03_neural_nets import count_parameters
from chapter_05_gradient_mastery import AdamW, cross_entropy
from chapter_07_attention import (
    Positions,
    Transformer,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
    causal_mask,
)
from utils import Tensor

BEGIN, END = 1, 2


@pytest.fixture
def model():
    model = Transformer(12, 8, 2, 2, dropout=0.3, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.data += rng.normal(size=p.shape) * 0.3
    return model.eval()


def padded(ids, length):
    return np.array([[*row, *[0] * (length - len(row))] for row in ids])


SOURCES = [[3, 4, 5, 6], [7, 8], [9, 10, 11, 3, 4, 5]]


@pytest.mark.parametrize("length", [6, 7, 15])
def test_padding_does_not_change_the_result(model, length):
    targets = np.array([[1, 5, 6], [1, 7, 8], [1, 3, 3]])
    together = model(padded(SOURCES, length), targets).data
    for i, source in enumerate(SOURCES):
        alone = model(np.array([source]), targets[[i]]).data
        np.testing.assert_allclose(
            together[i], alone[0], atol=1e-5, err_msg="the ids that fill up a source were read"
        )
    written = model.write(padded(SOURCES, length), BEGIN, END, 8)
    assert written == [model.write(np.array([s]), BEGIN, END, 8)[0] for s in SOURCES]


def test_what_is_written_later_changes_nothing_before_it(model):
    source, target = np.array([[3, 4, 5]]), np.array([[1, 5, 6, 7]])
    logits, changed = model(source, target).data, target.copy()
    changed[0, 2] = 9
    others = model(source, changed).data
    np.testing.assert_allclose(others[:, :2], logits[:, :2], atol=1e-6)
    assert np.abs(others[:, 2:] - logits[:, 2:]).min(axis=-1).max() > 0


def test_everything_read_reaches_everything_written(model):
    source, target = np.array([[3, 4, 5]]), np.array([[1, 5]])
    logits = model(source, target).data
    for place in range(3):
        changed = source.copy()
        changed[0, place] = 11
        moved = np.abs(model(changed, target).data - logits).max(axis=-1)
        assert (moved > 1e-4).all(), "also the last token read reaches the first written"


def test_writing_is_one_likeliest_token_after_another(model):
    source = padded(SOURCES, 6)
    for i, found in enumerate(model.write(source, BEGIN, END, 9)):
        written = [BEGIN]
        while len(written) < 10:
            token = int(model(source[[i]], np.array([written])).data[0, -1].argmax())
            if token == END:
                break
            written.append(token)
        assert found == written[1:]


class Knocking(Transformer):
    """Says 5 as often as the first id of a source says, then the end, then 7 for ever."""

    def encode(self, source):
        self.decoded = 0
        return Tensor(source[:, :1].astype(float)), None

    def decode(self, target, memory, memory_mask):
        self.decoded += 1
        spoken = np.arange(np.shape(target)[1])
        ids = np.where(spoken < memory.data, 5, np.where(spoken == memory.data, END, 7))
        return Tensor(np.eye(12)[ids])


def test_writing_goes_on_until_every_sequence_has_ended():
    model, sources = Knocking(12, 8, 2, 1), np.array([[3], [0], [5], [1]])
    assert model.write(sources, BEGIN, END, 9) == [[5] * 3, [], [5] * 5, [5]]
    assert model.decoded == 6, "the longest has five tokens and an end; the sources are read once"
    assert model.write(sources, BEGIN, END, 4) == [[5] * 3, [], [5] * 4, [5]], "up to the limit"
    assert model.write(sources, BEGIN, END, 0) == [[]] * 4


def test_writing_leaves_the_model_in_training(model):
    model.train()
    first = model.write(np.array([[3, 4]]), BEGIN, END, 5)
    assert model.write(np.array([[3, 4]]), BEGIN, END, 5) == first and model.training


def test_one_table_of_vectors_is_also_the_last_matrix(model):
    assert model.head.weight is model.embedding.weight
    tables = [p for p in model.parameters() if p.shape == (12, 8)]
    assert len(tables) == 1 and count_parameters(model) == sum(p.size for p in model.parameters())


def test_it_learns_to_copy_backwards():
    rng = np.random.default_rng(0)
    model = Transformer(8, 16, 2, 1, dropout=0.0, rng=rng)
    optimizer = AdamW(model.parameters(), 5e-3)
    for _ in range(150):
        source = rng.integers(3, 8, size=(32, 4))
        ends = np.full((32, 1), END)
        target = np.concatenate([ends * 0 + BEGIN, source[:, ::-1], ends], axis=1)
        loss = cross_entropy(model(source, target[:, :-1]), target[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source = rng.integers(3, 8, size=(50, 4))
    right = [a == b[::-1] for a, b in zip(model.write(source, BEGIN, END, 6), source.tolist())]
    assert np.mean(right) > 0.8, f"{np.mean(right):.0%} right: does the decoder read the memory?"


def test_ids_that_are_no_tokens(model):
    good = np.array([[3, 4]])
    for source, target in [(np.array([[12]]), good), (good, np.array([[-1]]))]:
        with pytest.raises(ValueError, match="0 to 11"):
            model(source, target)


def test_parts_can_be_others():
    made = []

    def layer(kind):
        def make(*args, **options):
            made.append(kind)
            both = {"reads": TransformerEncoderLayer, "writes": TransformerDecoderLayer}
            return both[kind](*args, **options)

        return make

    model = Transformer(
        12, 8, 2, 2, positions=Positions(), padding=11,
        encoder_layer=layer("reads"), decoder_layer=layer("writes"),
    ).eval()  # fmt: skip
    assert sorted(made) == ["reads"] * 2 + ["writes"] * 2
    source, target = np.array([[3, 4, 11, 11]]), np.array([[1, 2]])
    swapped = np.array([[4, 3, 11, 11]])
    np.testing.assert_allclose(
        model(source, target).data, model(swapped, target).data, atol=1e-5,
        err_msg="without positions what was read is a set",
    )  # fmt: skip


def test_pytorchs_transformer_says_the_same(rng):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    ours = Transformer(12, 8, 2, 2, 16, dropout=0.0)
    theirs = torch.nn.Transformer(8, 2, 2, 2, 16, dropout=0.0, batch_first=True)
    theirs.encoder.norm, theirs.decoder.norm = None, None  # the paper has none there
    for name in ("encoder", "decoder"):
        for mine, yours in zip(getattr(ours, name), getattr(theirs, name).layers):
            same_parameters(mine, yours, np.float64)
    ours.astype(np.float64)
    source, target = padded(SOURCES, 6), rng.integers(3, 12, size=(3, 4))
    x, y = (torch.tensor(ours.embed(ids).data) for ids in (source, target))
    behind = torch.tensor(source == 0)
    hidden = theirs(
        x, y, tgt_mask=torch.tensor(~causal_mask(4)), src_key_padding_mask=behind,
        memory_key_padding_mask=behind,
    )  # fmt: skip
    expected = hidden @ torch.tensor(ours.embedding.weight.data).T + torch.tensor(
        ours.head.bias.data
    )
    near(ours(source, target).data, expected, "the logits")
    assert isinstance(ours(source, target), Tensor)
