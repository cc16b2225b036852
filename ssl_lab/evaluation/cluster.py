"""Whether classes appear without labels."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, confusion_matrix, normalized_mutual_info_score
from torch.nn.functional import normalize

from ssl_lab.evaluation.settings import require
from ssl_lab.evaluation.subject import Subject
from ssl_lab.types import Result


def cluster(subject: Subject, clusters: int | None = None, starts: int = 5, seed: int = 0) -> Result:
    """k-means on normalised training features; how its clusters agree with the classes of the test images.

    clusters: as many as classes when null. starts: initialisations, of which the tightest is kept. nmi: normalised
    mutual information (arithmetic mean). ari: adjusted Rand index. purity: share of images in the commonest class of
    their cluster, with one label a cluster read after the fact. Raises ValueError for more clusters than images.
    """
    sets = subject.sets
    k, most = len(sets.classes) if clusters is None else clusters, len(sets.train)
    require(1 <= k <= most, "clusters", k, f"1 to {most}, the training images", min(len(sets.classes), most))
    train, test = (normalize(subject.features(s), dim=1).cpu().numpy() for s in (sets.train, sets.test))
    found = KMeans(k, n_init=starts, random_state=seed).fit(train).predict(test)
    labels = subject.labels(sets.test).cpu().numpy()
    table = confusion_matrix(labels, found, labels=np.arange(max(k, len(sets.classes))))
    figures = {
        "nmi": float(normalized_mutual_info_score(labels, found)),
        "ari": float(adjusted_rand_score(labels, found)),
        "purity": float(table.max(0).sum() / len(labels)),
    }
    settings = {"clusters": k, "starts": starts, "seed": seed, "metric": "cosine", "views": "clean"}
    return Result(figures, settings, ("nmi", "ari", "purity"))
