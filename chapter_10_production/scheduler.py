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

    At most `most_running` at once, reading at most `most_tokens` a step. Source: Yu et al., 2022,
    Orca, OSDI 22; chunks: Agrawal et al., 2023, arXiv:2308.16369.
    """

    def __init__(self, pool: PagePool, most_running: int, most_tokens: int) -> None:
        self.pool, self.most_running, self.most_tokens = pool, most_running, most_tokens
        self.waiting: deque[Text] = deque()
        self.running: list[Text] = []
        self.preemptions = 0

    def plan(self, ahead: int = 0) -> dict[Text, int]:
        """How many tokens each text is to read now.

        Texts that are read to their ends have room for `ahead` more, which may be proposed to them.
        """
        planned: dict[Text, int] = {}
        budget = self.most_tokens
        for text in sorted(self.running, key=lambda text: text.unread > 1):
            if text not in self.running or budget == 0:
                continue  # it has made room for one before it
            count = min(text.unread, budget)
            whole = count == text.unread
            room = text.reach(ahead) if whole else text.computed + count
            if self.make_room(text, room, planned):
                planned[text] = count
                budget -= count
        while self.waiting and len(self.running) < self.most_running and budget > 0:
            text = self.waiting[0]
            text.share_beginning()
            if not text.cover(text.reach(ahead)):
                text.release()
                break
            self.running.append(self.waiting.popleft())
            planned[text] = min(text.unread, budget)
            budget -= planned[text]
        return planned

    def make_room(self, text: Text, tokens: int, planned: dict[Text, int]) -> bool:
        """Pages for a text, if need be at the cost of younger ones, or its own."""
        while not text.cover(tokens):
            youngest = self.running.pop()
            planned.pop(youngest, None)
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
