"""Draw the book in one picture, from the tables of results and of speed in its README.

python tests/support/draw_book.py      writes assets/book.png
"""

from __future__ import annotations

import re
from typing import NamedTuple

from result_tables import ROOT

from utils.plotting import COLOURS, new_figure, save_figure, styled

MILLISECONDS, TIMES = re.compile(r"([\d.,]+) ms"), re.compile(r"([\d.]+) times")


class Names(NamedTuple):
    """A model of names: its chapter, what it is, its loss, and its reference's."""

    chapter: int
    model: str
    loss: float
    reference: str  # as printed: it has the digits that its lesson gives


class Job(NamedTuple):
    """A job, and how many times our time PyTorch and a peer take; None where nobody measured."""

    name: str
    torch: float | None
    peer: float | None
    peer_name: str


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def names() -> list[Names]:
    found = []
    for what, here, reference, *_ in rows("What comes out"):
        chapter, _, model = what.partition(" · ")
        if model.startswith("names, "):
            model = model[len("names, ") :].partition(", nats")[0]
            ours, theirs = (re.search(r"\d+\.\d+", cell)[0] for cell in (here, reference))
            found.append(Names(int(chapter), model, float(ours), theirs))
    return found


def jobs() -> list[Job]:
    found = []
    for name, here, torch, peer, *_ in rows("How fast it is"):
        ours, theirs, times = (
            float(number[1].replace(",", "")) if number else None
            for number in (
                MILLISECONDS.search(here),
                MILLISECONDS.search(torch),
                TIMES.search(peer),
            )
        )
        found.append(Job(name, theirs and theirs / ours, times, peer.partition(" ")[0]))
    return found


@styled
def draw_book():
    figure, (left, right) = new_figure(11.5, 4.4, columns=2, width_ratios=(1.05, 1))
    models = names()
    places = range(len(models))
    left.plot(places, [float(m.reference) for m in models], "o", mfc="none", ms=8, color=COLOURS[1],
              label="the field's own lesson")  # fmt: skip
    left.plot(places, [m.loss for m in models], "o-", ms=8, color=COLOURS[0], label="this book")
    for place, model in zip(places, models):
        for text, y, above, colour in (
            (f"{model.loss:.3f}", model.loss, -16, COLOURS[0]),
            (model.reference, float(model.reference), 8, COLOURS[1]),
        ):
            left.annotate(text, (place, y), xytext=(0, above), textcoords="offset points",
                          ha="center", fontsize=9, color=colour, zorder=5,
                          bbox={"fc": "white", "ec": "none", "pad": 0.5})  # fmt: skip
    labels = [f"chapter {m.chapter}\n{m.model.replace(', ', chr(10))}" for m in models]
    left.set_xticks(places, labels, fontsize=8.5)
    left.set(title="One list of names, chapter by chapter", xlim=(-0.5, len(models) - 0.5),
             ylabel="nats a character, validation")  # fmt: skip
    left.margins(y=0.15)
    left.legend(loc="upper right")
    draw_speeds(right)
    return figure


def draw_speeds(axes) -> None:
    measured = jobs()[::-1]
    for place, job in enumerate(measured):
        bars = (job.torch, COLOURS[1], "PyTorch"), (job.peer, COLOURS[5], job.peer_name)
        for shift, (ratio, colour, name) in zip((0.2, -0.2), bars):
            if ratio:
                axes.barh(place + shift, ratio - 1, left=1, height=0.36, color=colour)
                beyond = max(ratio, 1)
                axes.text(beyond * 1.04, place + shift, f"{name} {ratio:.2f}", va="center",
                          fontsize=8.5)  # fmt: skip
    axes.axvline(1, color="#444444", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([0.5, 1, 2, 5, 10], ["half", "as long", "twice", "5 times", "10 times"])
    axes.minorticks_off()
    axes.set(xlim=(0.5, 40), title="How long others take for the same step")
    axes.set_yticks(range(len(measured)), [job.name.replace(", ", "\n", 1) for job in measured],
                    fontsize=8.5)  # fmt: skip
    axes.grid(axis="y", visible=False)


if __name__ == "__main__":
    (ROOT / "assets").mkdir(exist_ok=True)
    print(save_figure(draw_book(), ROOT / "assets/book.png").relative_to(ROOT))
