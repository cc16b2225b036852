"""Weighted nearest neighbours by cosine."""

from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.subject import Subject
from ssl_lab.hardware import fast_bfloat16
from ssl_lab.types import Result

SPARE = 128  # candidates beyond k, so that few queries are in doubt
PART = 32  # queries whose candidates are gathered at a time
BLOCK = 1 << 16  # rows of a bank that are searched at a time, so that the memory beside it stays bounded


def knn(subject: Subject, k: int = 200, temperature: float = 0.1) -> Result:
    """Accuracy of weighted kNN on frozen features (Wu et al. 2018, arXiv 1805.01978).

    Clean images, the whole training set without validation as bank. Raises ValueError when a class has fewer than `k`
    images: then the figure would not mean what it means elsewhere.
    """
    train, test = subject.sets.train, subject.sets.test
    bank_labels, labels = subject.labels(train), subject.labels(test)
    smallest = int(torch.bincount(bank_labels, minlength=len(subject.sets.classes)).min())
    if k > smallest:
        raise ValueError(
            f"protocols.knn.k={k}, but the smallest class has {smallest} training images; "
            f"set protocols.knn.k={smallest} or less"
        )
    bank, queries = subject.features(train), subject.features(test)
    predicted = predict(bank, bank_labels, queries, k, temperature, len(subject.sets.classes))
    settings = {"k": k, "temperature": temperature, "metric": "cosine", "bank": len(train), "views": "clean"}
    return Result("knn", scores(predicted, labels, len(subject.sets.classes)), settings)


@torch.inference_mode()
def predict(
    bank: Float[Tensor, "m d"],
    bank_labels: Int[Tensor, " m"],
    queries: Float[Tensor, "n d"],
    k: int,
    temperature: float,
    num_classes: int,
    chunk: int = 512,
) -> Int[Tensor, " n"]:
    """The class with the largest sum of exp(cosine / temperature) over the k nearest of the bank.

    chunk: queries at a time, so that similarities of `chunk` queries with BLOCK rows are held and no more.
    """
    similarities, places = neighbours(bank, queries, k, chunk)
    predicted = []
    for similarity, nearest in zip(similarities.split(chunk), places.split(chunk), strict=True):
        weights = ((similarity - similarity[:, :1]) / temperature).exp()  # the shift cancels; without it they underflow
        votes = weights.new_zeros(len(nearest), num_classes).scatter_add_(1, bank_labels[nearest], weights)
        predicted.append(votes.argmax(1))
    return torch.cat(predicted)


def neighbours(
    bank: Float[Tensor, "m d"], queries: Float[Tensor, "n d"], k: int, chunk: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Cosines with the k nearest of the bank, largest first, and their rows; a block of the bank at a time."""
    asked = normalize(queries, dim=1).split(chunk)
    found: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(bank), BLOCK):
        block = bank[start : start + BLOCK]
        search = Search(normalize(block, dim=1), min(k, len(block)))
        for number, part in enumerate(asked):
            values, rows = search(part)
            rows += start
            if start:
                values, rows = torch.cat([found[number][0], values], 1), torch.cat([found[number][1], rows], 1)
                values, place = values.topk(k, dim=1)
                found[number] = values, rows.gather(1, place)
            else:
                found.append((values, rows))
    return torch.cat([values for values, _ in found]), torch.cat([rows for _, rows in found])


class Search:
    """The k rows of a bank with the largest products; all rows have length 1.

    Where bfloat16 is fast on a processor, products in bfloat16 choose `k + SPARE` candidates, whose exact products
    decide. That is exact wherever what was left out cannot reach the k-th: by how much bfloat16 may err is known, since
    |<q, b> - <q', b'>| <= |b - b'| + |q - q'| |b'|. The other queries are searched in full; where these are many, the
    short way is given up.
    """

    def __init__(self, bank: Float[Tensor, "m d"], k: int):
        self.bank, self.k = bank, k
        short = bank.device.type == "cpu" and bank.dtype == torch.float32 and fast_bfloat16("cpu")
        self.rough = bank.bfloat16().T.contiguous() if short and len(bank) >= 64 * (k + SPARE) else None
        if self.rough is not None:
            self.length = float(self.rough.float().norm(dim=0).max())
            self.error = float((self.rough.float() - bank.T).norm(dim=0).max())
        self._held: dict[torch.dtype, Tensor] = {}  # used again: fresh memory would cost a fifth
        self._taken: Tensor | None = None

    def __call__(self, queries: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """Products, largest first, and rows."""
        if self.rough is None:
            return largest(self._products(queries, self._columns), self.k)
        values, rows, sure = self._in_short(queries, self.rough)
        if not sure.all():
            values[~sure], rows[~sure] = largest(self._products(queries[~sure], self._columns), self.k)
        if sure.float().mean() < 0.5:
            self.rough = None
        return values, rows

    @cached_property
    def _columns(self) -> Float[Tensor, "d m"]:
        return self.bank.T.contiguous()

    def _in_short(self, queries: Tensor, bank: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rounded = queries.bfloat16()
        told, candidates = largest(self._products(rounded, bank), self.k + SPARE)
        parts = zip(candidates.split(PART), queries.split(PART), strict=True)
        exact = torch.cat([self._with_rows(part, rows) for rows, part in parts])
        values, place = exact.topk(self.k, dim=1)
        beyond = told[:, -1].float()  # nothing that was left out was told to be more
        error = self.error + (queries - rounded.float()).norm(dim=1) * self.length
        reach = beyond + beyond.abs() * 2**-8 + error + 1e-5  # 2^-8: the product itself was rounded; 1e-5: its sum
        return values, candidates.gather(1, place), values[:, -1] >= reach

    def _with_rows(self, queries: Tensor, rows: Tensor) -> Tensor:
        """The products of each query with its own rows of the bank."""
        size = rows.numel()
        if self._taken is None or len(self._taken) < size:
            self._taken = self.bank.new_empty(size, self.bank.shape[1])
        taken = torch.index_select(self.bank, 0, rows.flatten(), out=self._taken[:size]).view(*rows.shape, -1)
        return torch.bmm(queries[:, None], taken.transpose(1, 2))[:, 0]

    def _products(self, queries: Tensor, columns: Tensor) -> Tensor:
        if queries.dtype not in self._held or len(self._held[queries.dtype]) < len(queries):
            self._held[queries.dtype] = columns.new_empty(len(queries), columns.shape[1])
        return torch.mm(queries, columns, out=self._held[queries.dtype][: len(queries)])


def largest(
    table: Float[Tensor, "n m"], k: int, group: int = 16
) -> tuple[Float[Tensor, "n {k}"], Int[Tensor, "n {k}"]]:
    """`table.topk(k, dim=1)`, several times faster on a processor where m is large.

    Whoever is among the k largest has a group whose maximum is among the k largest maxima: only those groups are
    searched. With equal values another of them may be chosen than `topk` would.
    """
    n, m = table.shape
    groups = m // group
    if groups <= k:
        return torch.topk(table, k, dim=1)
    maxima = table[:, : groups * group].view(n, group, groups).amax(1)  # group g holds columns g, g + groups, …
    chosen = maxima.topk(k, dim=1, sorted=False).indices
    inside = (chosen[:, None] + groups * torch.arange(group, device=table.device)[:, None]).flatten(1)
    beyond = torch.arange(groups * group, m, device=table.device).expand(n, -1)  # what fills no group
    candidates = torch.cat([inside, beyond], 1)
    values, places = table.gather(1, candidates).topk(k, dim=1)
    return values, candidates.gather(1, places)
