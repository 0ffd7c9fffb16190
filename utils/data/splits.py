"""Cutting data into a part to learn from and parts to be judged on, alike in every chapter."""

from __future__ import annotations

import random

from utils.data.images import Images

# What `load_images` gives for "mnist" and "fashion-mnist": their training set, then their test set.
OFFICIAL_TOTAL, OFFICIAL_TRAIN = 70_000, 60_000


def split_names(names: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Return (train, validation, test): 80, 10 and 10 % of `names`, shuffled with seed 42.

    Raises ValueError where a part would be empty.
    Source: A. Karpathy, github.com/karpathy/makemore: the same names fall into the same parts.
    """
    shuffled = list(names)
    random.Random(42).shuffle(shuffled)
    first, second = int(0.8 * len(shuffled)), int(0.9 * len(shuffled))
    if not 0 < first < second < len(shuffled):
        raise ValueError(f"{len(names)} names are too few to split 80/10/10; give 10 or more")
    return shuffled[:first], shuffled[first:second], shuffled[second:]


def split_text(text: str) -> tuple[str, str]:
    """Return (train, validation): the first 90 % of the characters and the last 10 %.

    Raises ValueError where a part would be empty.
    """
    cut = int(0.9 * len(text))
    if not 0 < cut < len(text):
        raise ValueError(f"a text of length {len(text)} is too short to split 90/10")
    return text[:cut], text[cut:]


def split_images(data: Images, n_train: int | None = None) -> tuple[Images, Images]:
    """Return (train, test): the first `n_train` images and the rest, as views.

    `n_train` None means the official 60,000 of the 70,000 images of MNIST, and four fifths of any
    other set (8,000 of 10,000). Raises ValueError where a part would be empty.
    """
    images, labels = data
    if n_train is None:
        n_train = OFFICIAL_TRAIN if len(images) == OFFICIAL_TOTAL else len(images) * 4 // 5
    if not 0 < n_train < len(images):
        raise ValueError(f"n_train={n_train} of {len(images)} images leaves a part without images")
    return Images(images[:n_train], labels[:n_train]), Images(images[n_train:], labels[n_train:])
