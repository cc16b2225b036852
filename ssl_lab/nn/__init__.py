"""Networks: backbones, heads and the Encoder."""

from ssl_lab.nn.convnet import ConvNet
from ssl_lab.nn.encoder import Encoder
from ssl_lab.nn.mlp import MLP
from ssl_lab.nn.resnet import ResNet
from ssl_lab.nn.timm_backbone import TimmBackbone

__all__ = ["MLP", "ConvNet", "Encoder", "ResNet", "TimmBackbone"]
