"""Weighted nearest neighbours by cosine."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.subject import Subject
from ssl_lab.types import Result


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

    chunk: queries at a time, so that `chunk` x `m` similarities are held and no more.
    """
    bank = normalize(bank, dim=1).T.contiguous()
    held = bank.new_empty(min(chunk, len(queries)), bank.shape[1])  # used again: fresh memory would cost a fifth
    predicted = []
    for part in normalize(queries, dim=1).split(chunk):
        similarity, nearest = largest(torch.mm(part, bank, out=held[: len(part)]), k)
        weights = ((similarity - similarity[:, :1]) / temperature).exp()  # the shift cancels; without it they underflow
        votes = weights.new_zeros(len(part), num_classes).scatter_add_(1, bank_labels[nearest], weights)
        predicted.append(votes.argmax(1))
    return torch.cat(predicted)


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
