"""Who is served: budgets, order, room and its return, checked after every step of random walks."""

from __future__ import annotations

import numpy as np
import pytest
from written_texts import FAMILIES, decided, draft_of, plainly

from chapter_10_production import Decoder, Engine, PagePool, SamplingParameters
from chapter_10_production.scheduler import Scheduler
from chapter_10_production.sequence import Text

LONGEST = 40
GREEDY = SamplingParameters(max_tokens=8, temperature=0)


def text_of(pool, prompt, tokens=None):
    return Text(prompt, SamplingParameters(max_tokens=tokens), LONGEST, None, pool)


class World:
    """A scheduler, texts that come, and a cache in which each place says what was written there.

    A place holds all tokens up to its own, which is what keys and values depend on.
    """

    def __init__(self, pages, page_size, most_running, most_tokens, ahead=0):
        self.pool = PagePool(pages + 1, page_size)
        self.scheduler = Scheduler(self.pool, most_running, most_tokens)
        self.ahead, self.cache, self.arrived = ahead, {}, []

    def add(self, prompt, tokens=None):
        text = text_of(self.pool, prompt, tokens)
        self.scheduler.waiting.append(text)
        self.arrived.append(text)
        return text

    def end(self, text):
        self.scheduler.remove(text)
        self.arrived.remove(text)

    def step(self):
        planned = self.scheduler.plan(self.ahead)
        self.check_plan(planned)
        for text, count in planned.items():
            for t in range(text.computed, text.computed + count):
                self.cache[self.slot(text, t)] = tuple(text.ids[: t + 1])
            text.computed += count
        for text in planned:
            for t in range(text.computed):
                assert self.cache[self.slot(text, t)] == tuple(
                    text.ids[: t + 1]
                ), f"place {t} of a text holds what belongs to another one"
            if text.unread == 0:
                text.ids.append(hash(tuple(text.ids)) % 3)
                if len(text.ids) == text.most:
                    self.end(text)
        for text in self.scheduler.running:
            text.remember_pages(text.computed)
        self.check()
        return planned

    def slot(self, text, t):
        size = self.pool.page_size
        assert text.table[t // size] == text.pages[t // size] > 0
        return text.pages[t // size], t % size

    def check_plan(self, planned):
        scheduler = self.scheduler
        written = [text for text in planned if text.unread == 1]
        guesses = sum(text.reach(self.ahead) - len(text.ids) for text in written)
        rows = sum(planned.values()) + guesses
        assert rows <= scheduler.most_tokens, f"{rows} tokens are read, {guesses} of them guesses"
        assert all(1 <= count <= text.unread for text, count in planned.items())
        assert set(planned) <= set(scheduler.running), "who has made room reads nothing"
        for text in planned:
            needed = -(-text.reach(self.ahead) // self.pool.page_size)
            assert len(text.pages) == needed, "pages for its tokens and its guesses, and no more"
        if self.arrived:
            assert planned.get(self.arrived[0]), "the oldest text is to move in every step"
        if len(scheduler.running) < scheduler.most_running:
            for text in scheduler.running:
                assert text.unread > 1 or text in planned, "each that is written gets its token"

    def check(self):
        scheduler, pool = self.scheduler, self.pool
        assert len(scheduler.running) <= scheduler.most_running, "too many run"
        assert [*scheduler.running, *scheduler.waiting] == self.arrived, "who came first is first"
        for text in scheduler.waiting:
            assert not text.pages and text.computed == 0, "who waits has nothing, and reads again"
        own = [page for text in scheduler.running for page in text.pages]
        assert pool.held == len(set(own)), f"{len(set(own))} pages are in use, {pool.held} held"
        for page in range(1, pool.pages + 1):
            assert pool.holders[page] == own.count(page), f"page {page} is counted wrongly"
        for text in scheduler.running:
            assert len(set(text.pages)) == len(text.pages), "a text has a page twice"
            assert len(text.pages) * pool.page_size >= text.computed


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("pages", "page_size", "most_running", "most_tokens", "ahead"),
    [
        (40, 1, 4, 9, 0),
        (12, 4, 4, 6, 0),
        (12, 4, 5, 5, 0),
        (30, 4, 3, 100, 0),
        (14, 4, 3, 16, 3),
        (3, 64, 3, 7, 1),
    ],
)
def test_random_walks_with_texts_that_leave(
    pages, page_size, most_running, most_tokens, ahead, seed
):
    rng = np.random.default_rng(seed)
    world = World(pages, page_size, most_running, most_tokens, ahead)
    beginnings = [[0, 1, 2] * 12, [0, 1, 2] * 2 + [1] * 30, [2] * 36]
    world.step()  # nobody is there yet
    for _ in range(150):
        if rng.random() < 0.4 and len(world.arrived) < 9:
            beginning = beginnings[rng.integers(3)][: rng.integers(1, 34)]
            tokens = None if rng.random() < 0.3 else int(rng.integers(1, 12))
            world.add([*beginning, int(rng.integers(3))], tokens)
        if rng.random() < 0.1 and world.arrived:
            world.end(world.arrived[rng.integers(len(world.arrived))])
            world.check()
        world.step()
    steps = 0
    while world.arrived:
        world.step()
        steps += 1
        assert steps < 9 * LONGEST * 2, "some text never ends"
    assert world.pool.held == 0 and world.pool.available == pages


def test_a_long_prompt_is_read_in_chunks_beside_a_text_that_is_written():
    world = World(20, 4, 2, 6)
    short = world.add([1], 20)
    world.step()
    long = world.add([2] * 14, 2)
    assert [world.step() for _ in range(4)] == [
        {short: 1, long: 5}, {short: 1, long: 5}, {short: 1, long: 4}, {short: 1, long: 1},
    ]  # fmt: skip


def test_guesses_take_part_of_the_budget():
    pool = PagePool(9, 4)
    scheduler = Scheduler(pool, 2, 7)
    one, other = (text_of(pool, [i]) for i in range(2))
    scheduler.waiting += [one, other]
    assert scheduler.plan(3) == {one: 1}, "a token and three guesses; three of seven are left"
    assert scheduler.plan(0) == {one: 1, other: 1} and not scheduler.waiting
    assert scheduler.plan(3) == {one: 1}, "who runs needs room for guesses too"


def test_the_youngest_makes_room_and_comes_back_first():
    world = World(12, 4, 3, 64)
    first, second, third = (world.add([i] * 11, 12) for i in range(3))
    fourth = world.add([0], 3)
    world.step()
    while third in world.scheduler.running:
        world.step()
    assert world.scheduler.preemptions == 1
    assert list(world.scheduler.waiting) == [third, fourth], "it waits before those that came later"
    assert world.scheduler.running == [first, second]
    while world.arrived:
        world.step()


def test_a_text_that_would_soon_make_room_again_is_not_let_in():
    world = World(7, 4, 3, 64)
    for _ in range(3):
        world.add([1] * 9, 6)  # three pages to begin with, and at most a fourth
    world.step()
    assert len(world.scheduler.running) == 2, "two texts fill six pages; one is left to grow"
    world = World(6, 4, 3, 64)
    for _ in range(2):
        world.add([1] * 9, 6)
    world.step()
    assert len(world.scheduler.running) == 1, "the first could not grow any more"
    while world.arrived:
        world.step()
    assert world.scheduler.preemptions == 0


def test_what_a_text_had_is_found_again_if_nobody_needed_it():
    world = World(12, 4, 2, 64)
    text = world.add([1] * 17, 4)
    world.step()
    world.scheduler.running.remove(text)
    text.release()
    world.scheduler.waiting.appendleft(text)
    assert world.step() == {text: 2}, "four of its pages are still there"


def test_a_text_that_shares_its_beginning_reads_the_rest():
    world = World(30, 4, 2, 64)
    world.add([*range(3)] * 5, 20)
    world.step()
    other = world.add([*[*range(3)] * 4, 9], 2)
    assert world.step()[other] == 1, "three pages of four tokens are shared; the last is its own"
    assert other.pages[:3] == world.arrived[0].pages[:3]


def engine_of(draft, **options):
    model = decided(FAMILIES["gpt2"])
    small = {"page_size": 4, "cached_tokens": 100, "most_running": 4, "most_tokens": 16}
    options = {**small, **options}
    if draft:
        options.update(draft=draft_of(model.config), ahead=2)
    return Engine(Decoder.from_model(model), **options), model


@pytest.mark.parametrize("draft", [False, True], ids=["plain", "draft"])
@pytest.mark.parametrize("seed", range(2))
def test_an_engine_whose_texts_come_and_are_cancelled_at_random(draft, seed):
    rng = np.random.default_rng(seed)
    engine, model = engine_of(draft)
    prompts = [[*range(14), i] for i in range(3)] + [[7] * n for n in (1, 4, 30)]
    wanted = [plainly(model, prompt, GREEDY) for prompt in prompts]
    added, told = [], {}
    for move in range(90):
        if move < 60 and rng.random() < 0.5:
            i = int(rng.integers(len(prompts)))
            added.append((i, engine.add(prompts[i], GREEDY)))
        if added and rng.random() < 0.15:
            engine.cancel(added[rng.integers(len(added))][1])
        before = engine.read
        for progress in engine.step():
            assert told.get(progress.request) is None, "a text has news after its end"
            told[progress.request] = progress.finish_reason
        assert engine.read - before <= 16, f"{engine.read - before} tokens were read in a step"
        own = [page for text in engine.scheduler.running for page in text.pages]
        assert engine.pool.held == len(set(own))
        assert sum(engine.pool.holders) == len(own)
    while engine.busy:
        for progress in engine.step():
            told[progress.request] = progress.finish_reason
    assert engine.pool.held == 0, "pages of texts that have ended are held"
    assert set(told.values()) == {"cancelled", "length"}
    for i, text in added:
        own = text.ids[text.prompt_length :]
        assert own == wanted[i][: len(own)], "somebody else has changed a text"
        assert told[text] == text.finish_reason
        assert text.finish_reason == "cancelled" or own == wanted[i]


@pytest.mark.parametrize("state", ["waiting", "half read", "written", "made room", "ended"])
@pytest.mark.parametrize("draft", [False, True], ids=["plain", "draft"])
def test_cancelled_in_any_state(state, draft):
    engine, model = engine_of(draft, most_tokens=8, most_running=2, cached_tokens=48)
    other = engine.add([3] * 20, SamplingParameters(max_tokens=24, temperature=0))
    text = engine.add([5] * 18, SamplingParameters(max_tokens=12, temperature=0))

    def reached():
        return {
            "waiting": text in engine.scheduler.waiting,
            "half read": 0 < text.computed < 18,
            "written": text.written > 0,
            "made room": engine.scheduler.preemptions > 0 and not text.pages,
            "ended": text.finish_reason is not None,
        }[state]

    for _ in range(200):
        if reached():
            break
        engine.step()
    assert reached(), "the test is to bring the text there"
    engine.cancel(text)
    engine.cancel(text)
    news = [p for p in engine.step() if p.request is text]
    if state == "ended":
        assert news == [] and text.finish_reason == "length"
    else:
        (progress,) = news
        assert progress.finish_reason == "cancelled" and progress.tokens == []
    assert text.pages == []
    while engine.busy:
        engine.step()
    assert engine.pool.held == 0
    assert other.ids[20:] == plainly(model, [3] * 20, other.parameters)
