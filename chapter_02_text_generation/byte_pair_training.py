"""Training byte pair encoding: find which two tokens stand side by side most often, give them a
token of their own, and repeat. Counting everything again at each step would be right but slow; a
merge changes little, so here it corrects the counts only where it changes something.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import Mapping, Tuple

Pair = Tuple[int, int]

# Joins no pair: it stands around words, and wherever a token was merged into its left neighbour.
NOTHING = -1


def learn_merges(words: Mapping[bytes, int], count: int) -> list[Pair]:
    """The first `count` merges of byte pair encoding (fewer if no pair is left), oldest first.

    `words` maps each distinct word to the number of times it occurs. A merge touches only the
    places where its pair stands, and a heap finds the most frequent pair.
    """
    # All words in one doubly linked list of ids, with NOTHING around each.
    ids, weights = [NOTHING], [0]
    for word, times in words.items():
        ids += [*word, NOTHING]
        weights += [times] * (len(word) + 1)
    before = list(range(-1, len(ids) - 1))
    after = list(range(1, len(ids) + 1))
    pair_counts: dict[Pair, int] = defaultdict(int)
    places: dict[Pair, list[int]] = defaultdict(list)

    def count_pair(left: int, sign: int) -> None:
        pair = (ids[left], ids[after[left]])
        if NOTHING not in pair:
            pair_counts[pair] += sign * weights[left]
            if sign > 0:
                places[pair].append(left)

    for left in range(len(ids) - 1):
        count_pair(left, +1)
    heap = [(-n, pair) for pair, n in pair_counts.items()]
    heapq.heapify(heap)

    merges: list[Pair] = []
    while heap and len(merges) < count:
        negative, pair = heapq.heappop(heap)
        # A pair's count only falls once it is in the heap, so it is put right when it surfaces.
        if pair_counts[pair] != -negative:
            if pair_counts[pair] > 0:
                heapq.heappush(heap, (-pair_counts[pair], pair))
            continue
        new = 256 + len(merges)
        merges.append(pair)
        new_pairs = set()
        # From the left, for pairs that overlap: "aaa" becomes "aa" and "a".
        for left in sorted(places.pop(pair)):
            right = after[left]
            if (ids[left], ids[right]) != pair:
                continue
            count_pair(before[left], -1)
            count_pair(right, -1)
            ids[left], ids[right] = new, NOTHING
            after[left] = after[right]
            before[after[left]] = left
            count_pair(before[left], +1)
            count_pair(left, +1)
            new_pairs |= {(ids[before[left]], new), (new, ids[after[left]])}
        for new_pair in new_pairs:
            if pair_counts.get(new_pair):
                heapq.heappush(heap, (-pair_counts[new_pair], new_pair))
    return merges
