"""Learning from a teacher's logits: the loss, its gradient, and the training."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import agree_in_layout, agree_twice_derived, case
from torch_twins import NO_TORCH

from chapter_03_neural_nets import evaluate
from chapter_05_gradient_mastery import cross_entropy
from chapter_07_attention import GPT, GPTConfig, fit, names_corpus, text_corpus
from chapter_10_production.distillation import distill, distillation_loss, divergence
from utils import Tensor, check_gradients, manual_seed

SIZES = (12, 1, 2, 16)  # block_size, n_layer, n_head, n_embd


def logits(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_divergence_by_hand():
    teacher = np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    student = np.log(np.array([[0.25, 0.75], [0.9, 0.1]]))
    expected = (0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)) / 2
    assert divergence(Tensor(student), teacher).item() == pytest.approx(expected)
    assert divergence(Tensor(teacher + 3), teacher).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_kernel_equals_its_composed_form(temperature):
    teacher = logits(3, 4, 5, seed=1)
    here = case("divergence", (3, 4, 5), teacher, temperature=temperature)

    def kernel(x, t, **options):
        return divergence(x, t.data if isinstance(t, Tensor) else t, **options)

    kernel.composed = lambda x, t, **options: divergence.composed(
        x, t.data if isinstance(t, Tensor) else t, **options
    )
    for layout in ("transposed", "sliced", "backwards"):
        agree_in_layout(kernel, here, layout)
    check_gradients(lambda x: divergence(x, teacher, temperature=temperature), [logits(3, 4, 5)])


def test_second_derivatives():
    teacher = logits(2, 4, seed=1)

    def kernel(x):
        return divergence(x, teacher, temperature=2.0)

    agree_twice_derived(kernel, case("divergence", (2, 4)))


def test_gradients_of_the_loss():
    targets = np.array([[1, -100, 2], [0, 3, -100]])
    check_gradients(
        lambda x: distillation_loss(x, logits(2, 3, 4, seed=1), targets, 3.0, 0.3),
        [logits(2, 3, 4)],
    )


def test_ignored_places_take_no_part():
    x, teacher = logits(2, 3, 4), logits(2, 3, 4, seed=1)
    targets = np.array([[1, -100, -100], [0, 3, -100]])
    counted = targets >= 0
    found = distillation_loss(Tensor(x), teacher, targets, 2.0, 0.4)
    alone = distillation_loss(Tensor(x[counted]), teacher[counted], targets[counted], 2.0, 0.4)
    assert found.item() == pytest.approx(alone.item())


def test_the_ends_of_alpha():
    x, teacher, targets = Tensor(logits(5, 4)), logits(5, 4, seed=1), np.arange(5) % 4
    assert distillation_loss(x, teacher, targets, alpha=1).item() == pytest.approx(
        cross_entropy(x, targets).item()
    )
    assert distillation_loss(x, teacher, targets, 3.0, 0).item() == pytest.approx(
        divergence(x, teacher, temperature=3.0).item()
    )


def test_the_gradient_keeps_its_size_at_any_temperature():
    sizes = []
    for temperature in (1.0, 10.0, 100.0):
        x = Tensor(logits(50, 6), requires_grad=True)
        divergence(x, logits(50, 6, seed=1), temperature=temperature).backward()
        sizes.append(np.abs(x.grad).mean())
    assert max(sizes) < 3 * min(sizes), "T^2 makes up for the gradient's 1 / T^2"


def test_large_logits():
    x = Tensor(np.array([[1000.0, -1000, 0]]), requires_grad=True)
    y = divergence(x, np.array([[-1000.0, 1000, 0]]))
    y.backward()
    assert y.item() == pytest.approx(2000) and np.isfinite(x.grad).all()


def test_beside_pytorch():
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    x, teacher, temperature = logits(6, 5), logits(6, 5, seed=1), 2.5
    leaf, twin = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    divergence(leaf, teacher, temperature=temperature).backward()
    theirs = temperature**2 * torch.nn.functional.kl_div(
        torch.log_softmax(twin / temperature, -1),
        torch.log_softmax(torch.tensor(teacher) / temperature, -1),
        reduction="batchmean",
        log_target=True,
    )
    theirs.backward()
    np.testing.assert_allclose(leaf.grad, twin.grad.numpy(), rtol=1e-10, atol=1e-12)


TEXT = "the quick brown fox jumps over the lazy dog and the dog sleeps. " * 30


def learnt(corpus, steps, seed=0):
    manual_seed(seed)
    model = GPT(GPTConfig(corpus.tokenizer.vocab_size, *SIZES))
    fit(model, corpus, steps, judged=1)
    return model.eval()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_student_becomes_like_its_teacher(threads):
    corpus = text_corpus(TEXT, 12)
    teacher = learnt(corpus, 60)
    before = {name: array.copy() for name, array in teacher.state_dict().items()}
    manual_seed(1)
    student = GPT(GPTConfig(corpus.tokenizer.vocab_size, *SIZES))
    ids = corpus.validation[0]
    far = divergence(student(ids), teacher(ids).data).item()
    history = distill(student, teacher, corpus, 60, alpha=0.0, threads=threads, judged=2)
    assert divergence(student(ids), teacher(ids).data).item() < 0.5 * far
    assert [e["step"] for e in history.evaluations] == [30, 60]
    assert history.evaluations[-1]["loss"] == evaluate(student, *corpus.validation)["loss"]
    for name, array in teacher.state_dict().items():
        np.testing.assert_array_equal(array, before[name], "a teacher does not learn")


def test_a_teacher_is_not_dropping_and_keeps_its_mode():
    corpus = text_corpus(TEXT, 12)
    config = GPTConfig(corpus.tokenizer.vocab_size, *SIZES, dropout=0.5)
    teacher, runs = GPT(config, rng=np.random.default_rng(0)).train(), []
    for _ in range(2):
        manual_seed(3)
        student = GPT(GPTConfig(corpus.tokenizer.vocab_size, *SIZES))
        runs.append(distill(student, teacher, corpus, 3, judged=1).losses)
    assert runs[0] == runs[1] and teacher.training


def test_names_are_padded_and_that_is_ignored():
    corpus = names_corpus(["anna", "bob", "eve", "oona", "ruth", "maximilian"] * 5)
    config = GPTConfig(corpus.tokenizer.vocab_size, corpus.block_size, 1, 2, 8)
    history = distill(GPT(config), GPT(config), corpus, 3, judged=1)
    assert np.isfinite(history.losses).all()


@pytest.mark.parametrize(
    "temperature, alpha, message",
    [
        (0, 0.5, "temperature"),
        (np.nan, 0.5, "temperature"),
        (1, 1.1, "alpha"),
        (1, np.nan, "alpha"),
    ],
)
def test_numbers_out_of_range(temperature, alpha, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(Tensor(logits(2, 3)), logits(2, 3), np.array([0, 1]), temperature, alpha)


def test_teachers_that_cannot_teach():
    corpus = text_corpus(TEXT, 12)
    size = corpus.tokenizer.vocab_size
    student = GPT(GPTConfig(size, *SIZES))
    for other in (GPTConfig(size + 1, *SIZES), GPTConfig(size, 8, 1, 2, 16)):
        with pytest.raises(ValueError, match="cannot teach"):
            distill(student, GPT(other), corpus, 1)
    with pytest.raises(ValueError, match="one shape"):
        divergence(Tensor(logits(2, 3)), logits(2, 4))
