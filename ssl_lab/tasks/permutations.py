"""Sets of permutations that are far from each other."""

from functools import cache
from itertools import permutations
from math import factorial, isqrt

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from ssl_lab.draws import seed_from

MOST = 9  # places of a permutation: 362,880 candidates, in less than a second


def hamming_permutations(length: int, count: int, seed: int = 0) -> Int64[Tensor, "count length"]:
    """`count` permutations of 0 ... length-1, chosen one by one to be as far as can be from those before on average.

    Noroozi and Favaro 2016 (arXiv 1603.09246, algorithm 1): the first at random, then always the one with the largest
    mean Hamming distance to the chosen; of equal ones, the first in an order that `seed` makes. Raises ValueError when
    there are not so many, or more than can be listed.
    """
    return torch.from_numpy(_greedy(length, count, seed).copy())


@cache
def _greedy(length: int, count: int, seed: int) -> NDArray[np.int64]:
    if length > MOST:
        raise ValueError(
            f"method.task.grid: {length} tiles have {factorial(length):.0e} orders, too many to choose among; "
            f"set it to {isqrt(MOST)} or less"
        )
    if not 2 <= count <= factorial(length):
        raise ValueError(
            f"method.task.permutations={count}: {length} tiles have {factorial(length):,}; set a number from 2 to that"
        )
    candidates = np.array(list(permutations(range(length))), np.uint8)
    candidates = np.random.default_rng(seed_from("permutations", seed)).permutation(candidates)
    # A candidate's summed distance is count x length minus its agreements, which grow only where it shares a place.
    sharing = [[np.flatnonzero(candidates[:, place] == value) for value in range(length)] for place in range(length)]
    agreements = np.zeros(len(candidates), np.int32)
    chosen = []
    for _ in range(count):
        best = int(agreements.argmin())
        chosen.append(best)
        for place, value in enumerate(candidates[best]):
            agreements[sharing[place][value]] += 1
        agreements[best] = np.iinfo(np.int32).max // 2  # beyond count x length: chosen once
    return candidates[chosen].astype(np.int64)
