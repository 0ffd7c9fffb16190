"""Engines of a tiny model, and ones that wait, fail or stumble where a test wants them to."""

from __future__ import annotations

import threading
import time

import numpy as np

from chapter_02_text_generation import CharacterTokenizer
from chapter_07_attention import GPT, GPTConfig
from chapter_10_production.decoder import Decoder
from chapter_10_production.engine import Engine
from utils.seeding import manual_seed

LETTERS = "abcdefghijklmnopqrstuvwxyz ."
CONTEXT = 48


def small_decoder(context: int = CONTEXT) -> Decoder:
    manual_seed(0)
    config = GPTConfig(len(LETTERS), context, n_layer=1, n_head=2, n_embd=16)
    return Decoder.from_model(GPT(config))


def small_tokenizer() -> CharacterTokenizer:
    return CharacterTokenizer.train(LETTERS)


class GatedEngine(Engine):
    """Steps only while its gate is open; raises `fault` at the next step, if one is set."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.gate, self.fault, self.steps = threading.Event(), None, 0
        self.gate.set()

    def step(self):
        if not self.gate.wait(20):
            raise TimeoutError("the test never opened the gate")
        if self.fault is not None:
            raise self.fault
        self.steps += 1
        return super().step()


class StumblingEngine(Engine):
    """The logits of texts that begin with token 0 are NaN from their third token on."""

    def write(self, texts, logits, proposed):
        for row, text in enumerate(texts):
            if text.ids[0] == 0 and text.written == 2:
                logits[row] = np.nan
        return super().write(texts, logits, proposed)


class SlowEngine(GatedEngine):
    """Takes a moment for each step, so that texts take seconds."""

    pause = 0.005

    def step(self):
        time.sleep(self.pause)
        return super().step()
