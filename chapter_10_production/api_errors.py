"""Whatever goes wrong, the client is told in one shape: a status, and a JSON object with one line.

A client can only act on what it can tell apart. So each kind of failure has a status of its own: a
mistake of the client (4xx, do not send it again), a full server (429, again after a while) or a
fault of the server (5xx). What the server knows beyond that line stays in the server's log.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from chapter_10_production.api_responses import error_body
from chapter_10_production.engine_thread import QueueFull, Unavailable
from chapter_10_production.streams import DeadlineExceeded, EngineDied, ServerStopped

# The same request would take as long again; the openai client would try it twice more.
RETRY_AFTER = {"retry-after": "5"}  # seconds: another server may be here by then
NO_RETRY = {"x-should-retry": "false"}


class BadRequest(Exception):
    """A request that cannot be answered: `param` is the parameter at fault, `code` a name."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


class ModelFailed(Exception):
    """The model gave numbers from which no token can be drawn."""

    def __init__(self) -> None:
        super().__init__("the model gave numbers that are not finite: no token can be drawn")


KINDS = {429: "rate_limit_error"}
ANSWERED = (BadRequest, QueueFull, Unavailable, DeadlineExceeded, EngineDied, ModelFailed)


class Failure(NamedTuple):
    """How a failure is answered."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def failure_of(error: Exception) -> Failure:
    """The answer to a request that ended with this exception."""
    if isinstance(error, BadRequest):
        return failure(error.status, error.message, error.param, error.code)
    if isinstance(error, QueueFull):
        retry_after = str(max(1, math.ceil(error.retry_after)))
        return failure(429, str(error), code="queue_full", **{"retry-after": retry_after})
    if isinstance(error, (Unavailable, ServerStopped)):
        return failure(503, str(error), code="unavailable", **RETRY_AFTER)
    if isinstance(error, DeadlineExceeded):
        return failure(504, str(error), code="deadline_exceeded", **NO_RETRY)
    if isinstance(error, EngineDied):
        return failure(500, "the engine has died", code="engine_died")
    if isinstance(error, ModelFailed):
        return failure(500, str(error), code="model_failed", **NO_RETRY)
    return failure(500, "the server made a mistake, which is in its log")


def failure(
    status: int, message: str, param: str | None = None, code: str | None = None, **headers: str
) -> Failure:
    kind = "server_error" if status >= 500 else KINDS.get(status, "invalid_request_error")
    return Failure(status, error_body(message, kind, param, code), headers)
