"""What the features look like: a map of the test images, the nearest neighbours of some, and clusters."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from ssl_lab.evaluation.subject import LabelledImages, Subject
from ssl_lab.types import Result


def gallery(
    subject: Subject,
    images: int = 1000,
    queries: int = 8,
    neighbours: int = 8,
    clusters: int = 8,
    side: int = 40,
    seed: int = 0,
) -> Result:
    """Test images on a plane (t-SNE, van der Maaten and Hinton 2008), and what lies nearest to some of them.

    images: on the map, drawn from the test set. queries, neighbours: rows and columns of the second picture:
    each row a test image, then its nearest training images by cosine. clusters: rows of the third: k-means of the
    test images, of each cluster those nearest to its centre. All are fewer where there are fewer images. side: of a
    thumbnail in pixels. Where there are no labels, the clusters stand for them.
    trustworthiness: of the map, from 0 to 1 (Venna and Kaski 2001, 12 neighbours); how far it may be believed.
    """
    sets = subject.sets
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(sets.test), generator=generator)[:images].sort().values
    features = normalize(subject.features(sets.test), dim=1).cpu()
    shown = features[rows].numpy()
    perplexity = min(30.0, (len(rows) - 1) / 3)
    places = on_a_plane(shown, perplexity, seed)
    asked = rows[torch.randperm(len(rows), generator=generator)[:queries]]
    neighbours = min(neighbours, len(sets.train))
    nearest = (features[asked] @ normalize(subject.features(sets.train), dim=1).cpu().T).topk(neighbours).indices
    near_rows = torch.cat([torch.cat([sets.test.gather(q[None]), sets.train.gather(n)])
                           for q, n in zip(asked, nearest, strict=True)])  # fmt: skip
    found, central = grouped(shown, clusters, neighbours + 1, seed)
    figures = {
        "trustworthiness": trust(shown, places),
        "x": np.round(places[:, 0], 4).tolist(),
        "y": np.round(places[:, 1], 4).tolist(),
        "label": [sets.classes[label] for (label,) in _labels(sets.test, rows[:, None])] or found,
        "cluster": found,
        "neighbour_label": [[sets.classes[label] for label in line] for line in _labels(sets.train, nearest)],
    }
    settings: dict[str, Any] = {"images": len(rows), "neighbours": neighbours, "clusters": len(central), "side": side}
    settings |= {"perplexity": perplexity, "seed": seed}
    pictures = {
        "map": contact_sheet(sets.test.gather(rows), side, math.ceil(math.sqrt(len(rows)))),
        "neighbours": contact_sheet(near_rows, side, neighbours + 1),
        "clusters": contact_sheet(sets.test.gather(rows[central.flatten()]), side, central.shape[1]),
    }
    return Result(figures, settings, ("trustworthiness",), pictures)


def on_a_plane(features: NDArray[np.float32], perplexity: float, seed: int) -> NDArray[np.float32]:
    """The places of rows, from 0 to 1, by t-SNE; up to three lie in a plane as they are."""
    if len(features) > 3:
        flat = PCA(min(50, *features.shape), random_state=seed).fit_transform(features)
        places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(flat)
    else:
        left, length, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
        flat = (left * length)[:, :2]
        places = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    placed: NDArray[np.float32] = (places - places.min(0)) / np.ptp(places, 0).clip(1e-9)
    return placed


def trust(features: NDArray[np.float32], places: NDArray[np.float32]) -> float:
    """The trustworthiness of a map; 1 for two images or one, of which none can be a false neighbour."""
    n = len(features)
    return float(trustworthiness(features, places, n_neighbors=min(12, max(1, n // 2 - 1)))) if n > 2 else 1.0


def grouped(features: NDArray[np.float32], clusters: int, most: int, seed: int) -> tuple[list[str], Tensor]:
    """The cluster of each row by name, and (clusters, most) the rows nearest to the middle of each."""
    found = KMeans(min(clusters, len(features)), n_init=5, random_state=seed).fit(features)
    distance = torch.from_numpy(found.transform(features))
    central = distance.topk(min(most, len(features)), dim=0, largest=False).indices.T
    return [f"cluster {number + 1}" for number in found.labels_], central


def contact_sheet(images: UInt8[Tensor, "n 3 h w"], side: int, columns: int) -> UInt8[Tensor, "3 y x"]:
    """Thumbnails in rows, without gaps, so that the place of each follows from its number."""
    small = interpolate(images.float(), (side, side), mode="bilinear", antialias=True).round().clamp(0, 255).byte()
    lines = math.ceil(len(small) / columns)
    sheet = small.new_full((lines * columns, 3, side, side), 255)
    sheet[: len(small)] = small
    return sheet.view(lines, columns, 3, side, side).permute(2, 0, 3, 1, 4).reshape(3, lines * side, columns * side)


def _labels(images: LabelledImages, rows: Tensor) -> list[list[int]]:
    return [] if images.labels is None else images.labels.cpu()[rows].tolist()
