"""Whether the nearest pictures show the same."""

from collections.abc import Sequence

import torch
from torch.nn.functional import normalize

from ssl_lab.evaluation.settings import SettingError, require
from ssl_lab.evaluation.subject import Subject
from ssl_lab.types import Result


@torch.inference_mode()
def retrieval(subject: Subject, ks: Sequence[int] = (1, 5, 10), chunk: int = 256) -> Result:
    """Images of the training set ranked by cosine for each test image; those of its class are what is sought.

    recall@k: share of queries with one of their class among the k nearest. map: mean over queries of the average
    precision of the whole ranking. Raises ValueError for a k beyond the set, and for none.
    """
    sets = subject.sets
    fine = len(ks) > 0 and all(k >= 1 for k in ks)
    require(fine, "ks", list(ks), "one or more, each 1 or above", "[1]")
    if max(ks) > len(sets.train):
        raise SettingError("ks", list(ks), f"the bank has {len(sets.train)} images", f"[{len(sets.train)}]")
    bank, labels = normalize(subject.features(sets.train), dim=1).T.contiguous(), subject.labels(sets.train)
    ranks = torch.arange(1, len(sets.train) + 1, device=bank.device, dtype=torch.float64)
    precision, recall = [], dict.fromkeys(ks, 0)
    queries = zip(subject.features(sets.test).split(chunk), subject.labels(sets.test).split(chunk), strict=True)
    for features, sought in queries:
        order = (normalize(features, dim=1) @ bank).argsort(dim=1, descending=True, stable=True)
        hits = (labels[order] == sought[:, None]).double()
        found = hits.sum(1)
        precision.append((hits * hits.cumsum(1) / ranks).sum(1) / found.clamp_min(1))
        for k in ks:
            recall[k] += int(hits[:, :k].any(1).sum())
    figures = {f"recall@{k}": count / len(sets.test) for k, count in recall.items()}
    figures["map"] = float(torch.cat(precision).mean())
    settings = {"ks": list(ks), "metric": "cosine", "bank": len(sets.train), "views": "clean"}
    return Result(figures, settings, (f"recall@{min(ks)}", "map"))
