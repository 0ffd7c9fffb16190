"""What a model looked at when it wrote a token: a route of the server, for the page.

The model reads the text once more, up to the token before the chosen one, since it is at that place
that the chosen one was decided. Of all its attention only the last row is kept: for each layer and
head, what share of its look went to each token so far. That is chapter 7's map, made with the
server's own decoder, and so of whatever form its matrices have.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from chapter_02_text_generation import Tokenizer
from chapter_07_attention import attend, attention_weights
from chapter_07_attention.attention import queries_keys_values
from chapter_10_production.api_errors import BadRequest, ModelFailed
from chapter_10_production.api_fields import Fields
from chapter_10_production.api_requests import RequestReader
from chapter_10_production.decoder import Decoder
from chapter_10_production.engine_thread import QueueFull
from chapter_10_production.paged_attention import mask_of
from chapter_10_production.strict_json import parse_object

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

MOST_WAITING = 8  # maps asked for and not yet drawn
UNFINISHED = "\ufffd"  # what a part of a character is called
DIGITS = 4  # of a share; more would be a longer answer and no better picture


def attention_shares(model: Decoder, ids: Sequence[int]) -> np.ndarray:
    """Where the last of these tokens looks: (n_layer, n_head, T), rows that sum to 1."""
    config, time = model.config, len(ids)
    mask = mask_of(config, np.arange(time)[None], time)
    found: list[np.ndarray] = []

    def attention(layer: int, packed: np.ndarray) -> np.ndarray:
        text = packed[None]
        q, k, _ = queries_keys_values(text, None, config.n_head, config.n_kv_head)
        k = np.repeat(k, config.n_head // config.n_kv_head, axis=1)
        last = None if mask is None else mask[..., -1:, :]
        found.append(attention_weights(q[:, :, -1:], k, last)[0, :, 0])
        return attend(text, heads=config.n_head, kv_heads=config.n_kv_head, mask=mask)[0]

    model(np.asarray(ids), np.arange(time), attention)
    return np.stack(found)


def attention_of(model: Decoder, ids: Sequence[int], place: int) -> dict[str, Any]:
    """The shares of a place of a text, ready for JSON: layers of heads of `place` + 1 numbers.

    Raises ValueError for a place that is not in the text, or beyond the model's context, and
    ModelFailed where the model's numbers are not finite.
    """
    most = min(len(ids), model.config.block_size)
    if type(place) is not int or not 0 <= place < most:
        raise ValueError(f"place is a whole number from 0 to {most - 1} here, not {place!r}")
    shares = attention_shares(model, ids[: place + 1]).astype(float).round(DIGITS)
    if not np.isfinite(shares).all():
        raise ModelFailed
    layers, heads, _ = shares.shape
    return {"place": place, "layers": layers, "heads": heads, "shares": shares.tolist()}


class AttentionReader:
    """Reads requests for a map: a prompt, the tokens that were written behind it, and a place.

    `prompt` is a string or a list of ids, and `tokens` a list of ids or of names, as they come with
    the log-probabilities of a completion. Parts of a character all have the same name: several of
    them are given as the text that they make. Without `place`, the last token looks. Raises
    BadRequest.
    """

    def __init__(self, model: Decoder, tokenizer: Tokenizer) -> None:
        config = model.config
        self.reader = RequestReader("", tokenizer, config.block_size, config.vocab_size)
        self.names = [tokenizer.decode([i]) for i in range(config.vocab_size)]
        self.ids: dict[str, list[int]] = {}
        for i, name in enumerate(self.names):
            self.ids.setdefault(name, []).append(i)

    def read(self, body: bytes) -> tuple[list[int], int]:
        """The ids of the whole text, and the place."""
        try:
            fields = Fields(parse_object(body))
        except ValueError as error:
            raise BadRequest(400, str(error), code="invalid_json") from None
        prompt, tokens = fields.take("prompt"), fields.take("tokens", [])
        if not isinstance(prompt, str) and not is_list_of(prompt, int):
            raise fields.bad("prompt", "a string or a list of tokens", prompt)
        if not is_list_of(tokens, int) and not is_list_of(tokens, str):
            raise fields.bad("tokens", "a list of names of tokens, or of their ids", tokens)
        ids = self.reader.encoded(prompt, "prompt")
        ids = [*ids, *(i for token in tokens for i in self.ids_of(token))]
        ids = self.reader.encoded(ids, "tokens")
        place = fields.whole("place", 0, len(ids) - 1, default=len(ids) - 1)
        fields.none_left()
        return ids, place

    def ids_of(self, token: int | str) -> list[int]:
        """An id itself, the token of a name, or the tokens of a text that is no token's name."""
        if isinstance(token, int):
            return [token]
        found = self.ids.get(token, [])
        if len(found) == 1 or not token:
            return found[:1]
        if found or UNFINISHED in token:
            message = f"{token[:40]!r} is a part of a character: which, only ids can say"
            raise BadRequest(400, message, "tokens", "invalid_value")
        return self.reader.encoded(token, "tokens")


def is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def attention_route(
    model: Decoder, tokenizer: Tokenizer, path: str = "/playground/attention"
) -> Route:
    """The route for one of `make_app`'s `extra_routes`; answers 429 where too many maps are asked.

    Maps are drawn one at a time, in a thread, so that neither the event loop nor the engine waits.
    """
    # Not above: the maps themselves need no server, and no extra.
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from chapter_10_production.app import unless_gone

    reader, pool = AttentionReader(model, tokenizer), ThreadPoolExecutor(1, "attention")
    waiting = 0

    def draw(body: bytes) -> dict[str, Any]:
        ids, place = reader.read(body)
        names = [reader.names[i] for i in ids[: place + 1]]
        return {"tokens": names, **attention_of(model, ids, place)}

    async def answer(request: Request) -> Response:
        nonlocal waiting
        body = await request.body()
        if waiting >= MOST_WAITING:
            raise QueueFull(1.0)
        waiting += 1
        try:
            work = asyncio.get_running_loop().run_in_executor(pool, draw, body)
            return JSONResponse(await unless_gone(request, work))
        finally:
            waiting -= 1

    return Route(path, answer, methods=["POST"])
