"""The 1,797 handwritten digits that come with scikit-learn."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from ssl_lab.data.source import Item, Plan, give, plan_arrays


class DigitsSource:
    """8x8 gray digits (scikit-learn's `load_digits`), without a test split of their own."""

    name = "digits"

    def signature(self) -> str:
        """The set never changes."""
        return "scikit-learn digits"

    def plan(self) -> Plan:
        """All in train."""
        return plan_arrays({"train": 1797}, [str(digit) for digit in range(10)])

    def read(self) -> Iterator[Item]:
        """Gray values 0 … 16 become 0 … 255."""
        from sklearn.datasets import load_digits  # here, because importing it takes a second

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        for row, (image, label) in enumerate(zip(images, digits.target.tolist(), strict=True)):
            yield Item(row, partial(give, image, label))
