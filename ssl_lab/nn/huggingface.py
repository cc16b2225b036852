"""What transformers calls the tensors of torchvision's ResNet, and back."""

import re


def to_huggingface(name: str) -> str:
    """From torchvision's name to that of `ResNetModel`."""
    name = re.sub(r"^conv1", "embedder.embedder.convolution", name)
    name = re.sub(r"^bn1", "embedder.embedder.normalization", name)
    name = re.sub(r"^layer(\d)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.", name)
    name = re.sub(r"\.conv(\d)", lambda m: f".layer.{int(m[1]) - 1}.convolution", name)
    name = re.sub(r"\.bn(\d)", lambda m: f".layer.{int(m[1]) - 1}.normalization", name)
    return name.replace("downsample.0", "shortcut.convolution").replace("downsample.1", "shortcut.normalization")


def from_huggingface(name: str) -> str:
    """From `ResNetModel`'s name, whatever stands before it, to torchvision's."""
    name = re.sub(r"embedder\.embedder\.convolution", "conv1", name)
    name = re.sub(r"embedder\.embedder\.normalization", "bn1", name)
    name = re.sub(r"encoder\.stages\.(\d+)\.layers\.", lambda m: f"layer{int(m[1]) + 1}.", name)
    name = re.sub(r"\.layer\.(\d+)\.convolution", lambda m: f".conv{int(m[1]) + 1}", name)
    name = re.sub(r"\.layer\.(\d+)\.normalization", lambda m: f".bn{int(m[1]) + 1}", name)
    return name.replace("shortcut.convolution", "downsample.0").replace("shortcut.normalization", "downsample.1")
