"""load_images and the drawn glyphs: what they hold, the layouts read, files that do not hold up."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from utils.data import GLYPHS, Images, load_images, render_glyphs, split_images


def idx(array: np.ndarray, type_code: int = 8) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, type_code, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def pixels(rng) -> np.ndarray:
    return rng.integers(0, 256, size=(5, 28, 28), dtype=np.uint8)


LABELS = np.array([3, 1, 4, 1, 5], dtype=np.uint8)


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def refuse(path, said: str, error=ValueError) -> None:
    with pytest.raises(error) as caught:
        load_images(path)
    message = str(caught.value)
    assert "\n" not in message, f"an error message is one line, yours is {message!r}"
    assert said in message, f"expected {said!r} in {message!r}"


# The drawn set.


def test_built_in_images_are_the_same_at_every_call():
    first, second = load_images(), load_images()
    assert first.images.shape == (10_000, 28, 28)
    assert first.images.dtype == np.float32
    assert first.labels.dtype == np.int64
    assert first.images.min() == 0
    assert first.images.max() == 1
    assert set(first.labels) == set(range(len(GLYPHS)))
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_every_picture_shows_one_whole_glyph_near_its_middle():
    images, _ = render_glyphs(1100)  # more than one page of tiles
    assert (images.sum(axis=(1, 2)) > 10).all(), "a picture is empty"
    border = np.ones((28, 28), dtype=bool)
    border[1:-1, 1:-1] = False
    assert (images[:, border] > 0).any(axis=1).mean() < 0.05, "glyphs are cut off or spill over"
    mass = images.sum(axis=0)
    assert abs((mass.sum(axis=1) @ np.arange(28)) / mass.sum() - 13.5) < 0.5
    assert abs((mass.sum(axis=0) @ np.arange(28)) / mass.sum() - 13.5) < 0.5


def test_glyphs_stand_upright_under_the_right_label():
    images, labels = render_glyphs(600, characters="LT7")
    top, bottom = images[:, :14].sum(axis=(1, 2)), images[:, 14:].sum(axis=(1, 2))
    assert (bottom > top)[labels == 0].mean() > 0.9, "an L has its bar below"
    assert (top > bottom)[labels == 1].mean() > 0.9, "a T has its bar above"
    left, right = images[:, :, :14].sum(axis=(1, 2)), images[:, :, 14:].sum(axis=(1, 2))
    assert (left > right)[labels == 0].mean() > 0.9, "an L has its stem on the left"


def test_glyphs_follow_the_generator():
    same = [render_glyphs(20, rng=np.random.default_rng(7))[0] for _ in range(2)]
    other = render_glyphs(20, rng=np.random.default_rng(8))[0]
    np.testing.assert_array_equal(*same)
    assert (same[0] != other).any()


@pytest.mark.parametrize("arguments", [(0,), (-1,), (5, ""), (5, "a b"), (5, "é")])
def test_nothing_to_draw_is_refused(arguments):
    with pytest.raises(ValueError, match="count=|characters="):
        render_glyphs(*arguments)


def test_a_nearest_neighbour_reads_most_glyphs():
    images, labels = render_glyphs(3000, characters="0123456789")
    images = images.reshape(3000, -1)
    train, test = images[:2500], images[2500:]
    distance = (train**2).sum(axis=1) - 2 * test @ train.T
    assert (labels[:2500][distance.argmin(axis=1)] == labels[2500:]).mean() > 0.9


# Files.


@pytest.mark.parametrize("suffixes", [("", ""), (".gz", ".gz"), (".gz", ""), ("", ".gz")])
def test_idx_files_find_the_labels_beside_them(tmp_path, pixels, suffixes):
    for name, array, suffix in zip(["images-idx3", "labels-idx1"], [pixels, LABELS], suffixes):
        content = idx(array)
        content = gzip.compress(content) if suffix else content
        (tmp_path / f"my-{name}-ubyte{suffix}").write_bytes(content)
    images, labels = load_images(tmp_path / f"my-images-idx3-ubyte{suffixes[0]}")
    np.testing.assert_array_equal(images, pixels.astype(np.float32) / 255)
    np.testing.assert_array_equal(labels, LABELS)
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)


def test_mnist_test_digits_by_path(reference_data):
    images, labels = load_images(reference_data / "t10k-images-idx3-ubyte.gz")
    assert images.shape == (10_000, 28, 28)
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(float(images.mean(dtype=np.float64)) - 0.1325) < 1e-4
    train, test = split_images(Images(images, labels))
    assert (len(train.images), len(test.labels)) == (8_000, 2_000)


@pytest.mark.parametrize(
    "scale", [np.uint8(1), np.int64(1), np.float32(1 / 255), np.float64(1 / 255)]
)
def test_npz_files_hold_bytes_or_fractions(tmp_path, pixels, scale):
    path = tmp_path / "mine.npz"
    path.write_bytes(npz(images=pixels * scale, labels=LABELS.astype(np.int32)))
    images, labels = load_images(path)
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    np.testing.assert_allclose(images, pixels / 255, rtol=1e-6)
    np.testing.assert_array_equal(labels, LABELS)


def test_npz_files_in_keras_layout_give_training_then_test(tmp_path, pixels):
    path = tmp_path / "mnist.npz"
    arrays = {
        "x_test": pixels[3:],
        "y_test": LABELS[3:],
        "x_train": pixels[:3],
        "y_train": LABELS[:3],
    }
    path.write_bytes(npz(**arrays))
    np.testing.assert_array_equal(load_images(path).images * 255, pixels)
    np.testing.assert_array_equal(load_images(path).labels, LABELS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: b"", "empty"),
        (lambda content: content[:2], "begins with the bytes 00 00;"),
        (lambda content: content[:10], "header ends after 10 of 16"),
        (lambda content: content[:-1], "need 3,920 bytes, the file holds 3,919"),
        (lambda content: content + b"x", "holds more"),
        (lambda content: b"\0\0\x0d\x03" + content[4:], "begins with the bytes 00 00 0d 03"),
        (lambda content: idx(LABELS), "begins with the bytes 00 00 08 01"),
        (lambda content: b"just text, no pixels", "begins with the bytes 6a 75 73 74"),
        (lambda content: gzip.compress(content)[:-100], "damaged gzip"),
        (lambda content: gzip.compress(content)[:1000] + b"\xff" * 100, "damaged gzip"),
        (lambda content: gzip.compress(content)[:-8] + b"\0" * 8, "damaged gzip"),
        (lambda content: idx(np.zeros((5, 32, 32))), "shape (5, 32, 32), not (N, 28, 28)"),
        (lambda content: idx(np.zeros((0, 28, 28))), "shape (0, 28, 28)"),
        (lambda content: idx(np.zeros((4, 28, 28))), "4 images but 5 labels"),
    ],
)
def test_idx_files_that_do_not_hold_up(tmp_path, pixels, change, said):
    (tmp_path / "labels").write_bytes(idx(LABELS))
    path = tmp_path / "images"
    path.write_bytes(change(idx(pixels)))
    refuse(path, said)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_sizes_are_checked_before_memory_is_taken(tmp_path, compress):
    path = tmp_path / "images"
    path.write_bytes(compress(struct.pack(">IIII", 0x803, 2**32 - 1, 28, 28) + bytes(100)))
    tracemalloc.start()
    try:
        refuse(path, "need 3,367,254,359,280 bytes")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6, f"a lying header made the reader take {peak:,} bytes"


def test_missing_or_damaged_labels(tmp_path, pixels):
    path = tmp_path / "images.idx3"
    path.write_bytes(idx(pixels))
    refuse(path, "looked for labels.idx1 and labels.idx1.gz", FileNotFoundError)
    (tmp_path / "labels.idx1").write_bytes(idx(pixels))
    refuse(path, "labels.idx1: begins with the bytes 00 00 08 03; an IDX file of labels")
    nameless = tmp_path / "digits"
    nameless.write_bytes(idx(pixels))
    refuse(nameless, "needs 'images' in its name")


class Trap:
    """Unpickling it would fail the test: no file of data may run code."""

    def __reduce__(self):
        return pytest.fail, ("an NPZ file was unpickled",)


def zeros(*shape, dtype=np.uint8) -> np.ndarray:
    return np.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": zeros(5, 28, 28)}, "needs the arrays images and labels; it holds: pictures"),
        ({"images": zeros(5, 784), "labels": LABELS}, "shape (5, 784), not (N, 28, 28)"),
        ({"images": np.array([Trap()]), "labels": LABELS}, "allow_pickle=False"),
        ({"images": zeros(4, 28, 28), "labels": LABELS}, "4 images but 5 labels"),
        ({"images": zeros(5, 28, 28), "labels": LABELS / 2}, "labels are float64 (5,)"),
        ({"images": zeros(5, 28, 28), "labels": LABELS.astype(np.int64) - 2}, "label -1"),
        ({"images": zeros(5, 28, 28, dtype="U1"), "labels": LABELS}, "not numbers"),
        ({"images": np.full((5, 28, 28), np.nan), "labels": LABELS}, "from nan to nan"),
        (
            {"images": np.full((5, 28, 28), 255.0), "labels": LABELS},
            "from 255.0 to 255.0, not 0 to 1",
        ),
        ({"images": np.full((5, 28, 28), -0.5), "labels": LABELS}, "from -0.5 to -0.5, not 0 to 1"),
        ({"images": np.full((5, 28, 28), 256), "labels": LABELS}, "from 256 to 256, not 0 to 255"),
        ({"images": np.uint8(3), "labels": LABELS}, "unreadable NPZ"),
    ],
)
def test_npz_files_that_do_not_hold_up(tmp_path, arrays, said):
    path = tmp_path / "mine.npz"
    path.write_bytes(npz(**arrays))
    refuse(path, said)


def test_a_zip_that_is_no_npz(tmp_path):
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", "text")
        archive.writestr("labels", "text")
    refuse(path, "unreadable NPZ")
    path.write_bytes(path.read_bytes()[:50])
    refuse(path, "unreadable NPZ")


@pytest.mark.parametrize("kind", ["idx", "idx.gz", "npz"])
def test_random_damage_gives_a_clear_error_or_valid_images(tmp_path, pixels, rng, kind):
    (tmp_path / "labels").write_bytes(idx(LABELS))
    content = {
        "idx": idx(pixels),
        "idx.gz": gzip.compress(idx(pixels)),
        "npz": npz(images=pixels, labels=LABELS),
    }[kind]
    path = tmp_path / "images"
    for _ in range(200):
        damaged = bytearray(content[: rng.integers(1, 2 * len(content))])
        for position in rng.integers(0, min(len(damaged), 200), size=rng.integers(1, 4)):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            images, labels = load_images(path)
        except ValueError as error:
            assert "\n" not in str(error)
            assert str(path) in str(error)
        else:
            assert images.shape == (len(labels), 28, 28)


@pytest.mark.parametrize("source", ["no-such-file", "names"])
def test_an_unknown_source_lists_the_known_names(source):
    refuse(source, "mnist, fashion-mnist", FileNotFoundError)


# Splits.


def test_split_images_takes_the_first_to_train_without_copying(pixels):
    data = Images(pixels, LABELS)
    train, test = split_images(data)
    assert (len(train.images), len(test.images)) == (4, 1)
    (_, labels), (_, rest) = split_images(data, n_train=2)
    assert (labels.tolist(), rest.tolist()) == ([3, 1], [4, 1, 5])
    assert np.shares_memory(train.images, pixels)


def test_split_images_knows_the_official_split():
    data = Images(np.zeros((70_000, 1, 1)), np.arange(70_000))
    assert [len(part.labels) for part in split_images(data)] == [60_000, 10_000]


@pytest.mark.parametrize("n_train", [0, -1, 5, 6])
def test_split_images_refuses_empty_parts(pixels, n_train):
    with pytest.raises(ValueError, match=f"n_train={n_train} of 5"):
        split_images(Images(pixels, LABELS), n_train)
