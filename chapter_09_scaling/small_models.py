"""A family of small GPTs on one text, each trained for several lengths: what a law is fitted to.

A model is at its best after D tokens if its rate has fallen to nothing by then, so every length
seems to ask for a run of its own. With chapter 8's `wsd` it does not: until the fall begins nothing
depends on the length. One trunk is trained at a level rate, and where a length asks for it a branch
leaves the trunk, on which the rate falls.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple, Sequence

from chapter_03_neural_nets import Batches, Module, Optimizer, evaluate, train
from chapter_07_attention import GPT, Corpus, GPTConfig
from chapter_08_optimization import muon_and_adamw, wsd
from chapter_09_scaling.shared_batches import next_token_loss
from utils import manual_seed

HEAD_DIM = 16
JUDGED_AT_ONCE = 64  # blocks


class Size(NamedTuple):
    """A GPT of so many layers, each so wide, with heads of about 16."""

    layers: int
    width: int

    def __str__(self) -> str:
        return f"{self.layers} x {self.width}"


class Run(NamedTuple):
    """A trained model: its parameters without embeddings, the tokens it saw, its loss (nats)."""

    size: Size
    parameters: int
    tokens: int
    loss: float

    @property
    def flops(self) -> float:
        """6 N D: a product and a sum a weight and token, forward, and twice that backward."""
        return 6.0 * self.parameters * self.tokens


class Training(NamedTuple):
    """What all models share: texts a step, the highest rates, and their rise (steps) and fall.

    One rate serves all widths: Muon's step is as long, measured by what it adds to the output for
    an input, whatever the matrix's size. The shortest length must rise before it falls.
    """

    batch: int = 16
    muon_lr: float = 0.03
    adamw_lr: float = 6e-3
    rise: int = 50
    fall: float = 0.3


def small_gpt(size: Size, corpus: Corpus) -> GPT:
    """A GPT of this size for the corpus's tokens and the length of its texts."""
    heads = max(size.width // HEAD_DIM, 1)
    vocab_size = corpus.tokenizer.vocab_size
    return GPT(GPTConfig(vocab_size, corpus.block_size, size.layers, heads, size.width))


def parameters_of(model: GPT) -> int:
    """How many parameters it has between its tables: no embedding, no positions, no head.

    A table's rows are looked up and take no arithmetic. The head does; here it is the embedding.
    Source: Kaplan et al., 2020, arXiv:2001.08361, section 2.1.
    """
    return sum(p.size for module in (model.layers, model.norm) for p in module.parameters())


def tokens_of(steps: int, corpus: Corpus, training: Training) -> int:
    """How many tokens a run of so many steps sees, some of them more than once."""
    return steps * training.batch * corpus.block_size


def trained(
    size: Size,
    corpus: Corpus,
    lengths: Sequence[int],
    training: Training,
    seed: int = 0,
) -> Iterator[Run]:
    """Train one size for each of the lengths (steps), shortest first, and judge each at its end.

    A branch is, bit for bit, what a run of that length alone would be. Every loss is that of the
    whole validation part. Source: Hägele et al., 2024, arXiv:2405.18392.
    """
    manual_seed(seed)
    model = small_gpt(size, corpus)
    batches = Batches(*corpus.train, batch_size=min(training.batch, len(corpus.train[0])))
    lengths = sorted(lengths)
    trunk, done = optimizer_for(model, training, lengths[-1]), 0
    for steps in lengths:
        fork = int((1 - training.fall) * steps)
        advance(model, trunk, batches, fork - done, f"{size}, level to {fork}")
        done = fork
        branch = optimizer_for(model, training, steps)
        branch.load_state_dict(trunk.state_dict())
        weights = {name: array.copy() for name, array in model.state_dict().items()}
        place = batches.state_dict()
        advance(model, branch, batches, steps - fork, f"{size}, fall to {steps}")
        loss = evaluate(model, *corpus.validation, batch_size=JUDGED_AT_ONCE)["loss"]
        yield Run(size, parameters_of(model), tokens_of(steps, corpus, training), loss)
        model.load_state_dict(weights)
        batches.load_state_dict(place)


def optimizer_for(model: GPT, training: Training, steps: int) -> Optimizer:
    """Chapter 8's recipe with rates that stay level until a run of so many steps nears its end."""
    rates = (
        wsd(lr, steps, training.rise, training.fall) for lr in (training.muon_lr, training.adamw_lr)
    )
    return muon_and_adamw(model, *rates, head=model.head)


def advance(
    model: Module, optimizer: Optimizer, batches: Batches, steps: int, description: str
) -> None:
    """So many steps on the batches that come next."""
    train(model, optimizer, batches, steps, loss=next_token_loss, description=description)
