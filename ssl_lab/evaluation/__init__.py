"""Protocols and probes: pure functions of an encoder and data sets, and thin callbacks."""

from ssl_lab.evaluation.bag import bag
from ssl_lab.evaluation.baselines import ColorStatistics, KMeansFeatures, RawPixels
from ssl_lab.evaluation.cluster import cluster
from ssl_lab.evaluation.duplicates import duplicates
from ssl_lab.evaluation.few_label import few_label
from ssl_lab.evaluation.finetune import finetune
from ssl_lab.evaluation.gallery import gallery
from ssl_lab.evaluation.health import health
from ssl_lab.evaluation.health_probe import HealthProbe
from ssl_lab.evaluation.knn import knn
from ssl_lab.evaluation.linear import linear
from ssl_lab.evaluation.logistic import logistic
from ssl_lab.evaluation.probe import KnnProbe
from ssl_lab.evaluation.recalibrate import recalibrated
from ssl_lab.evaluation.retrieval import retrieval
from ssl_lab.evaluation.robust import robust
from ssl_lab.evaluation.segment import segment
from ssl_lab.evaluation.settings import SettingError
from ssl_lab.evaluation.stages import stages
from ssl_lab.evaluation.subject import NotApplicable, Sets, Subject, extract

__all__ = [
    "ColorStatistics",
    "HealthProbe",
    "KMeansFeatures",
    "KnnProbe",
    "NotApplicable",
    "RawPixels",
    "Sets",
    "SettingError",
    "Subject",
    "bag",
    "cluster",
    "duplicates",
    "extract",
    "few_label",
    "finetune",
    "gallery",
    "health",
    "knn",
    "linear",
    "logistic",
    "recalibrated",
    "retrieval",
    "robust",
    "segment",
    "stages",
]
