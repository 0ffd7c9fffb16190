"""Who is served in the next step: continuous batching.

A step reads some tokens of each text that runs: one of those that are being written, and as many as
are left of the budget of those whose prompts are still unread (a long prompt is read in chunks, so
that nobody waits for it). Texts come and go between steps. Pages are taken as texts grow; when none
are left, the youngest text makes room: its pages are given back, it waits at the front of the
queue, and is read again later. The oldest never makes room, so everything ends.
"""

from __future__ import annotations

from collections import deque

from chapter_10_production.pages import PagePool
from chapter_10_production.sequence import Text


class Scheduler:
    """Texts that wait, and texts that run, oldest first.

    At most `most_running` at once, reading at most `most_tokens` a step, guesses counted; the
    budget is to hold a token and its guesses for each. Source: Yu et al., 2022, Orca, OSDI 22;
    chunks: Agrawal et al., 2023, arXiv:2308.16369.
    """

    def __init__(self, pool: PagePool, most_running: int, most_tokens: int) -> None:
        self.pool, self.most_running, self.most_tokens = pool, most_running, most_tokens
        self.waiting: deque[Text] = deque()
        self.running: list[Text] = []
        self.preemptions = 0

    def plan(self, ahead: int = 0) -> dict[Text, int]:
        """How many tokens each text is to read now.

        Texts that are read to their ends have room for `ahead` more, which may be proposed to them.
        While more than `ahead` is left of the budget, a text takes what it has not read, or as much
        as is left, and `ahead` besides: first those that are written, then those that run, then
        those that wait, which may share their beginning. One that waits comes in only if it leaves
        a page for each that runs; if not, it gives its own back, and no other is looked at.
        """
        planned: dict[Text, int] = {}
        budget = self.most_tokens
        # A prompt has had its pages since it came in. Of those that are written the oldest is
        # first, so whoever makes room is not planned yet.
        for text in sorted(self.running, key=lambda text: text.unread > 1):
            waits = text not in self.running  # it has made room for one before it
            if not waits and budget > ahead and self.make_room(text, text.reach(ahead)):
                planned[text] = min(text.unread, budget)
                budget -= planned[text] + ahead
        while self.waiting and len(self.running) < self.most_running and budget > ahead:
            text = self.waiting[0]
            text.share_beginning()
            fits = text.cover(text.reach(ahead))
            # Without a page to grow for each that runs, it would soon make room again.
            if not fits or self.pool.available < len(self.running):
                text.release()
                break
            self.running.append(self.waiting.popleft())
            planned[text] = min(text.unread, budget)
            budget -= planned[text] + ahead
        return planned

    def make_room(self, text: Text, tokens: int) -> bool:
        """Pages for a text, if need be at the cost of younger ones, or its own."""
        while not text.cover(tokens):
            youngest = self.running.pop()
            youngest.release()
            self.waiting.appendleft(youngest)
            self.preemptions += 1
            if youngest is text:
                return False
        return True

    def remove(self, text: Text) -> None:
        """Serve it no longer."""
        if text in self.running:
            self.running.remove(text)
        else:
            self.waiting.remove(text)
        text.release()
