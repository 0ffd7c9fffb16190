"""n-grams and their smoothings: by hand, against plain dictionaries, and on makemore's names."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from chapter_02_text_generation.character_tokenizer import CharacterTokenizer
from chapter_02_text_generation.ngram import NGram
from chapter_02_text_generation.smoothing import AddK, KneserNey

# With 0 = boundary, 1 = a, 2 = b: "ab", "aab", "b".
DOCUMENTS = [[1, 2], [1, 1, 2], [2]]
SMOOTHINGS = [AddK(0), AddK(0.1), AddK(1), KneserNey(), KneserNey(0.75)]


@pytest.fixture(scope="module")
def names(reference_data):
    words = (reference_data / "names.txt").read_text().split()
    tokenizer = CharacterTokenizer.train("".join(words), special_tokens=["."])
    return [tokenizer.encode(word) for word in words]


def test_bigram_counts_by_hand():
    model = NGram(2, vocab_size=3, smoothing=AddK(0)).fit(DOCUMENTS)
    # ".a" 2, ".b" 1; "aa" 1, "ab" 2; "b." 3.
    np.testing.assert_allclose(model.probabilities([]), [0, 2 / 3, 1 / 3])
    np.testing.assert_allclose(model.probabilities([1]), [0, 1 / 3, 2 / 3])
    np.testing.assert_allclose(model.probabilities([1, 2]), [1, 0, 0])


def test_add_one_by_hand():
    model = NGram(2, vocab_size=3, smoothing=AddK(1)).fit(DOCUMENTS)
    np.testing.assert_allclose(model.probabilities([]), [1 / 6, 3 / 6, 2 / 6])


def test_after_a_context_never_seen_all_tokens_are_alike():
    model = NGram(2, vocab_size=3, smoothing=AddK(0)).fit([[1]])
    np.testing.assert_allclose(model.probabilities([2]), [1 / 3] * 3, err_msg="not 0 / 0")


def test_kneser_ney_by_hand():
    model = NGram(2, vocab_size=3, smoothing=KneserNey(0.5)).fit(DOCUMENTS)
    # In front of "." stands b; of "a" stand "." and a; of "b" stand a and ".": 1, 2, 2 of 5.
    unigram = (np.array([1, 2, 2]) - 0.5) / 5 + 0.5 * 3 / 5 * (1 / 3)
    after_a = np.array([0, 1 - 0.5, 2 - 0.5]) / 3 + 0.5 * 2 / 3 * unigram
    np.testing.assert_allclose(model.probabilities([1]), after_a)


def test_mean_nll_by_hand():
    model = NGram(2, vocab_size=3, smoothing=AddK(0)).fit(DOCUMENTS)
    # "b" and the boundary behind it.
    assert model.mean_nll([[2]]) == pytest.approx(-(math.log(1 / 3) + math.log(1)) / 2)


def test_unseen_event_without_smoothing_is_impossible():
    model = NGram(2, vocab_size=3, smoothing=AddK(0)).fit(DOCUMENTS)
    assert model.mean_nll([[2, 1]]) == math.inf
    assert NGram(2, 3, KneserNey()).fit(DOCUMENTS).mean_nll([[2, 1]]) < 10


def test_short_context_stands_at_the_start_of_the_document():
    model = NGram(4, vocab_size=3, smoothing=KneserNey()).fit(DOCUMENTS)
    np.testing.assert_array_equal(model.probabilities([1]), model.probabilities([0, 0, 1]))
    np.testing.assert_array_equal(model.probabilities([2, 0, 0, 1]), model.probabilities([1]))


def test_documents_do_not_run_into_each_other():
    model = NGram(3, vocab_size=3, smoothing=AddK(0)).fit([[1], [2]])
    assert model.probabilities([1])[0] == 1, "the boundary closes each document"
    np.testing.assert_allclose(model.probabilities([]), [0, 0.5, 0.5])
    assert model.mean_nll([[1], [2]]) == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("smoothing", SMOOTHINGS, ids=lambda s: f"{type(s).__name__}{vars(s)}")
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one_for_every_context(smoothing, order):
    rng = random.Random(order)
    documents = [[rng.choice([1, 1, 2, 3]) for _ in range(rng.randrange(9))] for _ in range(12)]
    model = NGram(order, vocab_size=6, smoothing=smoothing).fit(documents)
    # 4 and 5 never occur, so these are contexts both seen and unseen.
    for _ in range(200):
        context = [rng.randrange(6) for _ in range(rng.randrange(7))]
        p = model.probabilities(context)
        assert p.shape == (6,)
        assert (p >= 0).all()
        assert p.sum() == pytest.approx(1, abs=1e-12), f"after {context}"


def plain_kneser_ney(documents, order, vocab_size, discount):
    """p(token, context) by the formula, one n-gram at a time, from dictionaries."""
    grams = Counter()
    for document in documents:
        padded = [0] * (order - 1) + document + [0]
        for end in range(order, len(padded) + 1):
            grams[tuple(padded[end - order : end])] += 1
    by_length = {order: grams}
    for length in range(order - 1, 0, -1):
        by_length[length] = Counter(gram[1:] for gram in by_length[length + 1])
    followers = {length: defaultdict(dict) for length in by_length}
    for length, counts in by_length.items():
        for gram, n in counts.items():
            followers[length][gram[:-1]][gram[-1]] = n

    def probability(token, context):
        length = len(context) + 1
        shorter = 1 / vocab_size if length == 1 else probability(token, context[1:])
        counts = followers[length].get(context)
        if counts is None:
            return shorter
        values = list(by_length[length].values())
        n1, n2 = values.count(1), values.count(2)
        d = discount or (n1 / (n1 + 2 * n2) if n1 and n2 else 0.5)
        kept = max(counts.get(token, 0) - d, 0)
        return (kept + d * len(counts) * shorter) / sum(counts.values())

    return probability


@pytest.mark.parametrize("discount", [None, 0.3])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_equals_plain_dictionaries(order, discount):
    rng = random.Random(order)
    documents = [[rng.choice([1, 1, 1, 2, 3]) for _ in range(rng.randrange(8))] for _ in range(20)]
    model = NGram(order, vocab_size=5, smoothing=KneserNey(discount)).fit(documents)
    plain = plain_kneser_ney(documents, order, 5, discount)
    for _ in range(50):
        context = tuple(rng.randrange(5) for _ in range(order - 1))
        expected = [plain(token, context) for token in range(5)]
        np.testing.assert_allclose(model.probabilities(context), expected, rtol=1e-12)


def test_mean_nll_is_the_mean_over_probabilities():
    model = NGram(3, vocab_size=3, smoothing=KneserNey()).fit(DOCUMENTS)
    document = [2, 1, 1, 2]
    terms = [
        -math.log(model.probabilities(document[:i])[token])
        for i, token in enumerate([*document, 0])
    ]
    assert model.mean_nll([document]) == pytest.approx(sum(terms) / len(terms))


def test_boundary_may_be_any_id():
    shifted = [[token - 1 for token in document] for document in DOCUMENTS]
    first = NGram(3, 3, KneserNey()).fit(DOCUMENTS).probabilities([1])
    last = NGram(3, 3, KneserNey(), boundary=2).fit(shifted).probabilities([0])
    np.testing.assert_allclose(np.roll(first, -1), last)


def test_empty_document_is_a_boundary_alone():
    model = NGram(2, vocab_size=3, smoothing=AddK(0)).fit([[]])
    np.testing.assert_array_equal(model.probabilities([]), [1, 0, 0])


def test_numpy_documents_and_a_large_vocabulary():
    model = NGram(4, vocab_size=50257, smoothing=KneserNey(), boundary=50256)
    model.fit([np.array([5, 50255, 7], dtype=np.uint16), np.array([], dtype=np.int64)])
    p = model.probabilities(np.array([5, 50255]))
    assert p.argmax() == 7
    assert p.sum() == pytest.approx(1)


def test_bigrams_of_all_names(names):
    model = NGram(2, vocab_size=27, smoothing=AddK(0)).fit(names)
    assert model.mean_nll(names) == pytest.approx(2.4540, abs=0.0005)


def test_kneser_ney_beats_add_k_on_unseen_names(names):
    shuffled = list(names)
    random.Random(42).shuffle(shuffled)
    train, validation = shuffled[: int(0.8 * len(names))], shuffled[int(0.8 * len(names)) :]
    kneser_ney = NGram(5, 27, KneserNey()).fit(train).mean_nll(validation)
    add_k = min(NGram(5, 27, AddK(k)).fit(train).mean_nll(validation) for k in (1, 0.1, 0.01))
    assert kneser_ney < 2.02 < add_k


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NGram(0, 27, AddK()), "at least 1, not 0"),
        (lambda: NGram(float("nan"), 27, AddK()), "not nan"),
        (lambda: NGram(2, 27, AddK(), boundary=27), "boundary is 27"),
        (lambda: NGram(5, 50257, AddK()), "more than 64 bits"),
        (lambda: AddK(-1), "not -1"),
        (lambda: AddK(float("nan")), "not nan"),
        (lambda: KneserNey(1.5), "between 0 and 1, not 1.5"),
        (lambda: KneserNey(float("nan")), "not nan"),
        (lambda: NGram(2, 3, AddK()).probabilities([]), "call fit"),
        (lambda: NGram(2, 3, AddK()).fit([]), "no documents"),
        (lambda: NGram(2, 3, AddK()).fit([1, 2]), "a document is a sequence of ids, not 1"),
        (lambda: NGram(2, 3, AddK()).fit(["ab"]), "encode the text first"),
        (lambda: NGram(2, 3, AddK()).fit([[1, 3]]), "id 3 is not one of the ids 0 to 2"),
        (lambda: NGram(2, 3, AddK()).fit([[-1]]), "id -1 is not"),
        (lambda: NGram(2, 3, AddK()).fit(DOCUMENTS).probabilities([3]), "id 3 is not"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
