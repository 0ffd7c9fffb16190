"""Exercises: the book with holes in it, for readers who fill them in."""

from __future__ import annotations

from utils.exercises.catalogue import Exercise, all_exercises, chapters, exercises_of
from utils.exercises.definitions import blanked, definition, replaced, unwritten

__all__ = [
    "Exercise",
    "all_exercises",
    "blanked",
    "chapters",
    "definition",
    "exercises_of",
    "replaced",
    "unwritten",
]
