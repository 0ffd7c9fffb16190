"""A server that ends well: it takes nothing new, finishes what it began, and leaves.

Asked to end by SIGTERM or SIGINT, it still listens, and says by 503 that it is about to leave, so
that whoever spreads the requests sends them elsewhere. When all texts have ended, or the time for
that is over, it closes the port and the connections. Asked twice, it leaves at once.

Of uvicorn's Server this uses `serve`, `startup`, `handle_exit`, `should_exit` and `force_exit`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import socket
import time
from typing import Any, Callable

from chapter_10_production.engine_thread import EngineThread
from chapter_10_production.limits import BACKLOG
from chapter_10_production.metrics import INSTALL, Metrics
from chapter_10_production.protocol import GuardedProtocol, WireLimits

try:
    import uvicorn
except ImportError as error:
    raise ImportError(f"the server needs uvicorn ({error}): {INSTALL}") from error

log = logging.getLogger(__name__)

LAST_WORDS = 5  # seconds for answers to get out when all texts have ended
KEEP_ALIVE = 10  # seconds that a connection is kept for another request


class GracefulServer(uvicorn.Server):
    """Serves an application, and with it the thread of its engine.

    `ready` is called once requests are answered. Texts have `grace` seconds to end in.
    """

    def __init__(
        self,
        app: Any,
        thread: EngineThread,
        grace: float = 30.0,
        limits: WireLimits | None = None,
        ready: Callable[[], Any] | None = None,
    ) -> None:
        counted = thread.observer.responded if isinstance(thread.observer, Metrics) else None
        protocol = GuardedProtocol.within(WireLimits() if limits is None else limits, counted)
        config = uvicorn.Config(
            app,
            http=protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=LAST_WORDS,
        )
        super().__init__(config)
        self.thread, self.grace, self.ready = thread, grace, ready
        self.asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._complained = -math.inf

    async def serve_until_asked(self, listener: socket.socket) -> None:
        """Answer requests on a bound socket until a signal, or `end`, and then end well."""
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        if self.asked:
            self._ending.set()
        self._loop.set_exception_handler(self._complain)
        leaving = asyncio.ensure_future(self._leave())
        try:
            await self.serve(sockets=[listener])
        finally:
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leaving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.ready is not None:
            self.ready()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """What uvicorn calls for a signal, perhaps in the middle of anything."""
        self.end()

    def end(self) -> None:
        """Begin to leave; leave at once where that was asked before. For any thread."""
        if self.asked:
            self.should_exit = self.force_exit = True
        self.asked = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has left
                self._loop.call_soon_threadsafe(self._ending.set)

    async def _leave(self) -> None:
        await self._ending.wait()
        await asyncio.wait([self.thread.drain()], timeout=self.grace)
        self.thread.stop(0)  # what has not ended is ended now, and its readers are told
        self.should_exit = True

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What asyncio calls for errors that are nobody's.

        Where no file can be opened any more, it waits a second before it accepts again, but says
        so a hundred times first.
        """
        if getattr(context.get("exception"), "errno", None) not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
        elif time.monotonic() > self._complained + 1:
            self._complained = time.monotonic()
            log.error("no connection can be accepted: too many files are open")
