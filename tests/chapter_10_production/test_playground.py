"""The page in a real browser: it streams, stops, explains its tokens, and trusts none of them."""

from __future__ import annotations

import contextlib
import re
import time
import urllib.request

import pytest

for package in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason=f"needs {package}: pip install -e .[serve]")

from live_server import served  # noqa: E402
from small_servers import MODEL, small_app  # noqa: E402
from web_driver import browser, until  # noqa: E402

from chapter_02_text_generation import Tokenizer  # noqa: E402
from chapter_07_attention import GPT, GPTConfig, attention_maps  # noqa: E402
from chapter_10_production.app import Settings  # noqa: E402
from chapter_10_production.attention_view import attention_route  # noqa: E402
from chapter_10_production.decoder import Decoder  # noqa: E402
from chapter_10_production.limits import LimitBodies  # noqa: E402
from chapter_10_production.protocol import GuardedProtocol, WireLimits  # noqa: E402
from utils.seeding import manual_seed  # noqa: E402

NAMES = ["<script>window.broken = true</script>", "<img src=x onerror=alert(1)>", "&amp;", "\n",
         " ", "'", '"', "cat", "the", "U"]  # fmt: skip
CONTEXT = 512
KEY = "open sesame"
RIGHT, ENTER, ESCAPE = "\ue014", "\ue007", "\ue00c"
TOKENS = "#output .token"


class Names(Tokenizer):
    """A token for each of a few strings that a page might take for markup."""

    vocab_size, special_tokens = len(NAMES), {}

    def encode(self, text):
        ids = []
        while text:
            fitting = [i for i, name in enumerate(NAMES) if text.startswith(name)]
            if not fitting:
                raise ValueError(f"{text[0]!r} is in no token")
            ids.append(fitting[0])
            text = text[len(NAMES[fitting[0]]) :]
        return ids

    def decode(self, ids):
        return "".join(NAMES[i] for i in ids)


@pytest.fixture(scope="module")
def model():
    manual_seed(0)
    return GPT(GPTConfig(len(NAMES), CONTEXT, n_layer=2, n_head=2, n_embd=16)).eval()


@contextlib.contextmanager
def serving(model, settings=None, pause=0.0):
    """The address of a server that waits so many seconds before each step."""
    from small_engines import GatedEngine

    class Slow(GatedEngine):
        def step(self):
            time.sleep(pause)
            return super().step()

    decoder = Decoder.from_model(model)
    engine = Slow(decoder, Names(), cached_tokens=4 * CONTEXT)
    extra = [attention_route(decoder, engine.tokenizer)]
    with contextlib.ExitStack() as stack:
        options = {"extra_routes": extra, "middleware": [LimitBodies]}
        app, _ = stack.enter_context(small_app(engine, settings, **options))
        port = stack.enter_context(served(app, GuardedProtocol.within(WireLimits())))
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def server(model):
    with serving(model, pause=0.01) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with browser() as session:
        yield session


@pytest.fixture
def page(chromium, server):
    """The page, opened afresh; in the end nothing may stand in the browser's console."""
    chromium.resize(1000, 900)
    chromium.open(server)
    chromium.wait("find('model').textContent.includes(arguments[0])", MODEL)
    yield chromium
    assert chromium.console() == [], "the browser's console must stay empty"


def write(page, prompt="the cat", tokens=24, seed=1):
    """Let the page generate, and return what it shows in the end."""
    page.fill("textarea", prompt)
    page.fill("[name=max_tokens]", str(tokens))
    page.fill("[name=seed]", str(seed))
    page.click("[type=submit]")
    page.wait("find('status').textContent.includes('tokens in')")
    return page.text("#output")


def count(page):
    return page.run("return document.querySelectorAll(arguments[0]).length", TOKENS)


def running(server):
    with urllib.request.urlopen(f"{server}/metrics", timeout=10) as response:
        return float(re.search(r"^texts_running (\S+)", response.read().decode(), re.M)[1])


def test_text_grows_and_stop_frees_its_place(page, server):
    page.fill("[name=max_tokens]", "500")
    page.fill("textarea", "the")
    page.click("[type=submit]")
    early = until(lambda: count(page), "a token is shown")
    later = until(
        lambda: count(page) > early + 5, "more tokens are shown while the text is written"
    )
    assert later and running(server) == 1
    page.click("#stop")
    until(lambda: running(server) == 0, "Stop frees the place of the text in the engine", 1)
    page.wait("find('status').textContent.includes('stopped')")
    assert early < count(page) < 500
    assert page.run("return find('stop').disabled") is True


def test_tokens_that_look_like_markup_are_shown_as_text(page):
    shown = write(page, prompt=NAMES[0], tokens=60)
    parts = page.run("return written.tokens.map((token) => token.name)")
    assert {NAMES[0], NAMES[1], NAMES[2]} <= set(parts), "the test needs a text with such tokens"
    assert shown == NAMES[0] + "".join(parts), "the page must show the text letter by letter"
    page.click(f"{TOKENS}:nth-child(5)")
    page.wait("!find('map').hidden")
    assert page.run("return document.querySelectorAll('script').length") == 1
    assert page.run("return document.querySelectorAll('img').length") == 0
    assert page.run("return window.broken ?? null") is None


def test_pointing_at_a_token_shows_what_was_likely(page):
    write(page)
    token = page.run("const t = written.tokens[2]; return {name: t.name, p: t.probability}")
    assert page.run("return find('details').hidden") is True
    page.point(f"{TOKENS}:nth-child(4)")  # the first child is the prompt
    page.wait("!find('details').hidden")
    said = page.text("#details p")
    assert f"{100 * token['p']:.0f} %" in said or f"{100 * token['p']:.1f} %" in said
    rows = page.run("return [...find('details').querySelectorAll('tr')].map(r => r.textContent)")
    shares = [float(re.search(r"([\d.]+) %$", row)[1]) for row in rows]
    assert 5 <= len(rows) <= 6 and shares == sorted(shares, reverse=True), "the likeliest first"
    assert len(page.run("return [...find('details').querySelectorAll('.drawn')]")) == 1


def test_the_keyboard_reaches_everything(page):
    write(page)
    unnamed = page.run("return [...form.elements].filter((e) => e.type !== 'submit' && "
                       "e.type !== 'button' && !e.labels.length).length")  # fmt: skip
    assert unnamed == 0, "every input has a label"
    page.run("written.tokens[0].span.focus()")
    page.type(":focus", RIGHT)
    page.type(":focus", RIGHT)
    assert page.run("return document.activeElement.token.place") == 2
    assert page.run("return find('details').hidden") is False, "focus shows what pointing shows"
    assert page.run("return document.querySelectorAll('#output [tabindex=\"0\"]').length") == 1
    page.type(":focus", ENTER)
    page.wait("!find('map').hidden")
    page.type(":focus", ESCAPE)
    assert page.run("return find('details').hidden") is True


def test_a_chosen_token_shows_where_the_model_looked(page, model):
    write(page)
    page.click(f"{TOKENS}:nth-child(8)")  # the seventh token
    page.wait("!find('map').hidden")
    shown = page.run("return [...find('looks').children].map((c) => [c.name, c.share])")
    names = page.run("return written.tokens.slice(0, 6).map((token) => token.name)")
    assert [name for name, _ in shown] == ["the", " ", "cat", *names]
    ids = [NAMES.index(name) for name, _ in shown]
    maps = list(attention_maps(model, [ids]).values())
    mean = sum(m[0, :, -1].mean(0) for m in maps) / len(maps)
    assert [share for _, share in shown] == pytest.approx(list(mean), abs=1e-3)
    buttons = page.run("return find('heads').querySelectorAll('button canvas').length")
    assert buttons == 4, "a picture for each of two heads in each of two layers"
    page.click("[aria-label='Layer 2, head 1']")
    shown = page.run("return [...find('looks').children].map((c) => c.share)")
    assert shown == pytest.approx(list(maps[1][0, 0, -1]), abs=1e-3)
    assert "Layer 2, head 1" in page.text("#shown")
    page.click("#mean")
    assert "mean" in page.text("#shown")


def test_a_phone_needs_no_scrolling_sideways(page):
    page.resize(360, 740)
    write(page, tokens=60)
    page.click(f"{TOKENS}:nth-child(30)")
    page.wait("!find('map').hidden")
    width = page.run("return document.documentElement.scrollWidth")
    assert width <= 360, f"the page is {width} pixels wide on a phone of 360"
    left, right = page.run("const b = find('details').getBoundingClientRect();"
                           "return [b.left, b.right]")  # fmt: skip
    assert left >= 0 and right <= 360, "what is said of a token must be in the window"


def test_characters_of_several_tokens_and_held_back_text(page):
    pieces, half, whole = page.run(
        """
        const text = {tokens: [], characters: [], shown: 0};
        const send = (piece, names, offsets) => append(text, {text: piece, logprobs: {
            tokens: names, token_logprobs: names.map(() => -1),
            top_logprobs: names.map((name) => ({[name]: -1})), text_offset: offsets}});
        written = text;
        send("a", ["a"], [0]);
        send("", ["\\ufffd"], [1]);  // half of a character
        send("\\u{1f600}", ["\\ufffd"], [1]);  // two code units, one character
        send("", ["ST"], [2]);  // might become a stop string
        send("STU", ["U"], [4]);  // did not
        return [text.tokens.map(({span}) => span.textContent),
                namesBefore(text.tokens[2]), namesBefore(text.tokens[4])]"""
    )
    assert pieces == ["a", "", "\U0001f600", "ST", "U"]
    assert half == ["a", "\ufffd"] and whole == ["a", "\U0001f600", "ST"], "to ask for a map"


def test_errors_are_said_in_words(page):
    page.fill("textarea", "a dog")
    page.click("[type=submit]")
    page.wait("find('error').textContent")
    assert "is in no token" in page.text("#error")
    assert page.run("return find('stop').disabled") is True
    assert all("400" in line for line in page.console())
    write(page)
    assert page.text("#error") == "", "an error is forgotten when the next text begins"


def test_a_key_is_asked_for_where_one_is_needed(chromium, page, model):
    assert page.run("return getComputedStyle(find('key')).display") == "none"
    with serving(model, Settings(api_key=KEY)) as address:
        chromium.open(address)
        chromium.wait("find('error').textContent.includes('API key')")
        assert chromium.run("return find('key').hidden") is False
        chromium.fill("[name=key]", KEY)
        assert write(chromium)
        assert chromium.text("#error") == ""
        assert chromium.run("return localStorage.length + sessionStorage.length") == 0
        assert all("401" in line for line in chromium.console())
        chromium.open("about:blank")
