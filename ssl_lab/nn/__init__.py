"""Networks: backbones, heads, what teaches them, and the Encoder."""

from ssl_lab.nn.batch_norm import SharedBatchNorm, SplitBatchNorm, share_batch_norms, split_batch_norms
from ssl_lab.nn.convnet import ConvNet
from ssl_lab.nn.dense_heads import Hypercolumn, LinearStages, Upsampler
from ssl_lab.nn.encoder import Encoder
from ssl_lab.nn.mlp import MLP, classifier
from ssl_lab.nn.nin import NetworkInNetwork
from ssl_lab.nn.queue import Queue
from ssl_lab.nn.resnet import ResNet
from ssl_lab.nn.teacher import Teacher
from ssl_lab.nn.timm_backbone import TimmBackbone
from ssl_lab.nn.widened import Widened

__all__ = [
    "MLP",
    "ConvNet",
    "Encoder",
    "Hypercolumn",
    "LinearStages",
    "NetworkInNetwork",
    "Queue",
    "ResNet",
    "SharedBatchNorm",
    "SplitBatchNorm",
    "Teacher",
    "TimmBackbone",
    "Upsampler",
    "Widened",
    "classifier",
    "share_batch_norms",
    "split_batch_norms",
]
