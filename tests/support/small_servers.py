"""The API in front of a tiny model that reads any text, as an ASGI application."""

from __future__ import annotations

import contextlib

from small_engines import GatedEngine

from chapter_02_text_generation import BPETokenizer
from chapter_07_attention import GPT, GPTConfig
from chapter_10_production.decoder import Decoder
from chapter_10_production.engine_thread import EngineThread
from utils.seeding import manual_seed

MODEL = "tiny"
CONTEXT = 2048
PATIENCE = 20  # seconds: whatever takes longer hangs
# Bytes, and U+0301, the acute accent, alone, twice, four times and eight times.
MERGES = [(0xCC, 0x81), (256, 256), (257, 257), (258, 258)]


def byte_tokenizer() -> BPETokenizer:
    return BPETokenizer(MERGES, special_tokens=["<|end|>"])


def byte_engine(context: int = CONTEXT, kind=GatedEngine, **options):
    manual_seed(0)
    tokenizer = byte_tokenizer()
    config = GPTConfig(tokenizer.vocab_size, context, n_layer=1, n_head=2, n_embd=16)
    options = {"cached_tokens": 4 * context, **options}
    return kind(Decoder.from_model(GPT(config)), tokenizer, **options)


@contextlib.contextmanager
def small_app(engine=None, settings=None, most_waiting=64, **options):
    """An application, and the thread behind it."""
    from chapter_10_production.app import make_app
    from chapter_10_production.metrics import Metrics

    engine = byte_engine() if engine is None else engine
    thread = EngineThread(engine, most_waiting, observer=Metrics())
    thread.start()
    try:
        yield make_app(thread, engine.tokenizer, MODEL, settings, **options), thread
    finally:
        engine.gate.set()
        thread.stop(PATIENCE)
        assert not thread.alive, "stop ends the thread"
