"""How a script refuses bad input: one line that says what is wrong, and exit status 2."""

from __future__ import annotations

import pytest


def refused(main, arguments, capsys):
    """The line, after argparse's usage if there is any, and what was printed before it."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2, f"{arguments} must end with exit status 2"
    output = capsys.readouterr()
    *usage, message = output.err.splitlines()
    assert ".py: error: " in message, f"the last line must say what is wrong, yours: {message!r}"
    assert all(line.startswith(("usage:", " ")) for line in usage), f"more than a line: {usage}"
    return message, output.out
