"""Weighted nearest neighbours by cosine."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.settings import SettingError, require
from ssl_lab.evaluation.subject import Subject
from ssl_lab.hardware import fast_bfloat16
from ssl_lab.types import Result

NEIGHBOURS = 200  # that the field's CIFAR recipes ask
SPARE = 128  # candidates beyond k, so that few queries are in doubt
PART = 1 << 12  # rows whose rounding is measured at a time, in the processor's cache
BLOCK = 1 << 16  # rows of a bank that are searched at a time, so that the memory beside it stays bounded


def knn(subject: Subject, k: int = NEIGHBOURS, temperature: float = 0.1) -> Result:
    """Accuracy of weighted kNN on frozen features (Wu et al. 2018, arXiv 1805.01978).

    Clean images, the whole training set without validation as bank. Raises ValueError when a class has fewer than `k`
    images: then the figure would not mean what it means elsewhere.
    """
    require(k >= 1, "k", k, "1 or more", 20)
    require(temperature > 0, "temperature", temperature, "above 0", 0.1)
    train, test = subject.sets.train, subject.sets.test
    bank_labels, labels = subject.labels(train), subject.labels(test)
    of_class = torch.bincount(bank_labels, minlength=len(subject.sets.classes))
    smallest = int(of_class.min())
    if not smallest:
        missing = [name for name, count in zip(subject.sets.classes, of_class, strict=True) if not count]
        raise ValueError(
            f"no training image of {', '.join(missing)}; leave such classes out, or divide the data "
            "otherwise: set another data.split_seed or data.group_by"
        )
    if k > smallest:
        raise SettingError("k", k, f"the smallest class has {smallest} training images", smallest)
    bank, queries = subject.features(train), subject.features(test)
    predicted = predict(bank, bank_labels, queries, k, temperature, len(subject.sets.classes))
    settings = {"k": k, "temperature": temperature, "metric": "cosine", "bank": len(train), "views": "clean"}
    return Result(scores(predicted, labels, len(subject.sets.classes)), settings)


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
        self.rough = bank.bfloat16() if short and len(bank) >= 64 * (k + SPARE) else None
        if self.rough is not None:
            parts = zip(bank.split(PART), self.rough.split(PART), strict=True)
            self.error = max(float((part - rounded.float()).norm(dim=1).max()) for part, rounded in parts)
        self._held: dict[torch.dtype, Tensor] = {}  # used again: fresh memory would cost a fifth

    def __call__(self, queries: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """Products, largest first, and rows."""
        if self.rough is None:
            return largest(self._products(queries, self.bank), self.k)
        values, rows, sure = self._in_short(queries, self.rough)
        if not sure.all():
            values[~sure], rows[~sure] = largest(self._products(queries[~sure], self.bank), self.k)
        if sure.float().mean() < 0.5:
            self.rough = None
        return values, rows

    def _in_short(self, queries: Tensor, bank: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rounded = queries.bfloat16()
        told, candidates = largest(self._products(rounded, bank), self.k + SPARE)
        values, place = self._with_rows(queries, candidates).topk(self.k, dim=1)
        beyond = told[:, -1].float()  # nothing that was left out was told to be more
        error = self.error + (queries - rounded.float()).norm(dim=1) * (1 + self.error)  # |b'| is 1 + error at most
        reach = beyond + beyond.abs() * 2**-8 + error + 1e-5  # 2^-8: the product itself was rounded; 1e-5: its sum
        return values, candidates.gather(1, place), values[:, -1] >= reach

    def _with_rows(self, queries: Tensor, rows: Tensor) -> Tensor:
        """The products of each query with its own rows of the bank, which a sampled product reads where they lie."""
        ends, asked = torch.arange(0, rows.numel() + 1, rows.shape[1]), torch.zeros(rows.numel())
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # that such tensors are in beta
            wanted = torch.sparse_csr_tensor(
                ends, rows.flatten(), asked, (len(queries), len(self.bank)), check_invariants=False
            )
        products: Tensor = torch.sparse.sampled_addmm(wanted, queries, self.bank.T, beta=0).values()
        return products.view_as(rows)

    def _products(self, queries: Tensor, bank: Tensor) -> Tensor:
        if queries.dtype not in self._held or len(self._held[queries.dtype]) < len(queries):
            self._held[queries.dtype] = bank.new_empty(len(queries), len(bank))
        return torch.mm(queries, bank.T, out=self._held[queries.dtype][: len(queries)])


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
    whole = group * groups
    grouped = table[:, :whole].view(n, group, groups)  # group g holds columns g, g + groups, …
    chosen = grouped.amax(1).topk(k, dim=1, sorted=False).indices
    inside = grouped.gather(2, chosen[:, None].expand(-1, group, -1)).flatten(1)
    values, places = torch.cat([inside, table[:, whole:]], 1).topk(k, dim=1)  # with what fills no group
    columns = chosen.gather(1, places % k) + groups * (places // k)
    return values, torch.where(places < group * k, columns, places - group * k + whole)
