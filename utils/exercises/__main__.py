"""Work on the book's exercises in a copy of its chapters.

python -m utils.exercises
python -m utils.exercises start chapter_03
python -m utils.exercises show 3.1
python -m pytest --my-work
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Callable

from utils.commandline import script
from utils.exercises.catalogue import Exercise, chapters, exercises_of
from utils.exercises.workspace import Workspace

TRY = "python -m pytest --my-work"


def arguments(argv):
    flags = argparse.ArgumentParser(
        prog="python -m utils.exercises",
        description="Work on the book's exercises in a copy of its chapters.",
        epilog=f"Then see what passes: {TRY}. Copies are in my_work/, or where the environment "
        "variable DLFP_MY_WORK says.",
    )
    commands = flags.add_subparsers(metavar="COMMAND")

    def command(run: Callable, name: str, about: str, what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(run=run)
        added.add_argument("what", metavar=what, **({"nargs": "?"} if name == "list" else {}))
        return added

    command(listed, "list", "list the exercises, of the book or of a chapter", "CHAPTER")
    command(start, "start", "copy a chapter, with holes to fill in", "CHAPTER")
    show = command(shown, "show", "what an exercise asks for, and where", "NUMBER")
    show.add_argument("--hint", action="store_true", help="and what helps")
    command(diff, "diff", "compare your answer with the book's", "NUMBER")
    command(solve, "solve", "put the book's answer into your copy", "NUMBER")
    command(reset, "reset", "take your answer back out", "NUMBER")
    flags.set_defaults(run=listed, what=None)
    return flags.parse_args(argv)


def listed(args, work: Workspace) -> None:
    wanted = chapters() if args.what is None else [work.number_of(args.what)]
    for chapter in wanted:
        exercises = exercises_of(chapter)
        started = chapter in work.started
        print(f"{chapters()[chapter].name}{' (started)' if started else ''}")
        for exercise in exercises:
            state = "   " if not started else "[ ]" if is_open(work, exercise) else "[x]"
            print(f"  {state} {exercise.number:5} {exercise.symbol:32} "
                  f"{Path(exercise.file).name}")  # fmt: skip
    print("\npython -m utils.exercises start chapter_01 gives you the first ones."
          if not work.started else f"\n[x] is written; whether it is right, {TRY} "
          "tells.")  # fmt: skip


def is_open(work: Workspace, exercise: Exercise) -> bool:
    try:
        return work.is_open(exercise)
    except (OSError, ValueError):  # whatever has become of it, it is not done
        return True


def start(args, work: Workspace) -> None:
    chapter = work.number_of(args.what)
    folder = work.start(chapter)
    exercises = exercises_of(chapter)
    print(f"{folder} holds chapter {chapter} with {len(exercises)} holes.")
    first = exercises[0]
    print(f"The first is {first.symbol}, in {work.file_of(first)}.")
    print(f"What it asks for:    python -m utils.exercises show {first.number}")
    print(f"What passes so far:  {TRY}")


def shown(args, work: Workspace) -> None:
    exercise = work.exercise(args.what)
    print(f"Exercise {exercise.number}: {exercise.symbol}\n")
    print(textwrap.fill(exercise.about, 88) + "\n")
    try:
        print(textwrap.indent(exercise.unindented(work.own_answer(exercise)), "    "))
        print(f"\nin {work.file_of(exercise)}")
    except FileNotFoundError as error:
        print(error)
    print("judged by", "\n          ".join(exercise.tests))
    if args.hint:
        print("\n" + textwrap.fill(f"Hint: {exercise.hint or 'there is none.'}", 88))


def diff(args, work: Workspace) -> None:
    print(work.diff(work.exercise(args.what)) or "No difference.")


def solve(args, work: Workspace) -> None:
    put(args, work, work.solve, "is the book's now")


def reset(args, work: Workspace) -> None:
    put(args, work, work.reset, "is to be written again")


def put(args, work: Workspace, how: Callable[[Exercise], Path | None], said: str) -> None:
    exercise = work.exercise(args.what)
    kept = how(exercise)
    print(f"{exercise.symbol} in {work.file_of(exercise)} {said}.")
    if kept is not None:
        print(f"Yours is kept in {kept}.")


@script
def main(argv=None) -> None:
    args = arguments(argv)
    args.run(args, Workspace())


if __name__ == "__main__":
    main()
