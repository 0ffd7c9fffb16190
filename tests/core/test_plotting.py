"""The book's style: figures that are values, settings that come back, files whole or not at all."""

from __future__ import annotations

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from utils.plotting import heat_map, new_figure, save_figure, styled


@styled
def curve(values=(1.0, 3.0, 2.0)) -> Figure:
    """A curve."""
    figure, axes = new_figure()
    axes.plot(values, label="a")
    axes.legend()
    return figure


def test_a_new_figure_has_the_size_and_the_axes_asked_for():
    figure, axes = new_figure(5.0, 3.0)
    assert isinstance(figure, Figure) and figure.axes == [axes]
    assert figure.get_size_inches().tolist() == [5.0, 3.0]
    figure, axes = new_figure(rows=2, columns=3, sharex=True)
    assert axes.shape == (2, 3) and len(figure.axes) == 6


def test_figures_are_in_no_global_list():
    import matplotlib.pyplot as plt

    curve()
    assert plt.get_fignums() == []


def test_importing_it_leaves_pyplot_and_the_backend_alone(tmp_path):
    code = "import sys, utils.plotting; sys.exit('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60)
    assert done.returncode == 0, "pyplot picks a window system and keeps every figure"


def test_the_readers_settings_come_back():
    with matplotlib.rc_context({"axes.grid": False, "font.size": 23}):
        before = dict(matplotlib.rcParams)
        figure = curve()
        assert dict(matplotlib.rcParams) == before
    plain = Figure().subplots()
    assert figure.axes[0].xaxis.label.get_size() != 23, "figures are drawn in the book's own style"
    assert figure.axes[0].spines["top"].get_visible() != plain.spines["top"].get_visible()


def test_the_readers_settings_come_back_after_an_error():
    @styled
    def broken() -> Figure:
        raise RuntimeError

    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError):
        broken()
    assert dict(matplotlib.rcParams) == before


def test_styled_keeps_name_docstring_and_arguments():
    assert curve.__name__ == "curve" and curve.__doc__ == "A curve."
    assert curve(values=[1, 2]).axes[0].lines[0].get_ydata().tolist() == [1, 2]


def test_lines_differ_without_colour():
    @styled
    def lines():
        cycle = matplotlib.rcParams["axes.prop_cycle"]
        return [cycle.by_key(), len(cycle)]

    keys, count = lines()
    assert count >= 4
    grey = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in keys["color"]]
    dashes = [str(dash) for dash in keys.get("linestyle", ["-"] * count)]
    for i in range(count):
        for j in range(i):
            assert (
                dashes[i] != dashes[j] or abs(grey[i] - grey[j]) > 0.15
            ), f"lines {j} and {i} look alike in a grey print"


def test_saved_figures_are_png_and_the_same_figure_is_the_same_bytes(tmp_path):
    first, second = (save_figure(curve(), tmp_path / name) for name in ("a.png", "b.png"))
    assert first == tmp_path / "a.png"
    assert first.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert first.read_bytes() == second.read_bytes(), "no dates and no versions inside"
    assert save_figure(curve(), str(tmp_path / "c.png")).is_file()


def test_a_figure_that_cannot_be_saved_leaves_the_old_one(tmp_path, monkeypatch):
    path = save_figure(curve(), tmp_path / "curve.png")
    before = path.read_bytes()

    def fail(self, file, **options):
        file.write(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        save_figure(curve(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"], "no temporary file stays"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        save_figure(curve(), tmp_path / "missing" / "curve.png")


def test_heat_map_labels_every_row_and_column():
    figure, axes = new_figure()
    values = np.arange(6.0).reshape(2, 3)
    image = heat_map(axes, values, ["r", "s"], ["x", "y", "z"], vmin=0, vmax=10)
    np.testing.assert_array_equal(image.get_array(), values)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y", "z"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["r", "s"]
    assert axes.get_xticks().tolist() == [0, 1, 2] and axes.get_yticks().tolist() == [0, 1]
    assert image.get_clim() == (0, 10)
