"""From a finished run to a file that another library opens, tried by that library before it is kept."""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_lab.nn import Encoder, ResNet, TimmBackbone
from ssl_lab.nn.huggingface import to_huggingface
from ssl_lab.records import find_run, load_encoder
from ssl_lab.say import say

LIMIT = 1e-4  # between the features here and there, as a part of the largest


def handover(config: dict[str, Any]) -> None:
    """Write the encoder of a run; refused, and nothing left behind, when the other library's features differ."""
    folder, file = find_run(Path(config["run"])), Path(config["to"]).expanduser()
    if file.suffix not in (".safetensors", ".onnx"):
        raise ValueError(f"to={file}: ends in {file.suffix or 'nothing'}; allowed: .safetensors, .onnx")
    if file.resolve() == (folder.path / "encoder.safetensors").resolve():
        raise ValueError(f"to={file}: is the run's own encoder; choose another name")
    encoder, _ = load_encoder(folder.path)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{os.getpid()}-{file.name}")  # what stood there before stays until this one is tried
    images = encoder.normalize(torch.rand(4, 3, *sizes(folder.config), generator=torch.Generator().manual_seed(0)))
    try:
        if file.suffix == ".onnx":
            theirs, how = through_onnx(encoder, draft, images)
        else:
            theirs, how = LAYOUTS[config["layout"]](encoder, folder.config["method"]["backbone"], draft, images)
        with torch.inference_mode():
            ours = encoder.backbone(images)
        difference = float((ours - theirs.view_as(ours)).abs().max() / ours.abs().max().clamp_min(1e-12))
        if not difference <= LIMIT:
            raise ValueError(
                f"the features read back from {file} differ by {difference:.2g} (relative; allowed {LIMIT:g})"
            )
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    say(f"{file}: features read back differ by {difference:.1e} at most, relative to the largest")
    say(how.replace(repr(str(draft)), repr(str(file))))
    say(f"images: RGB in [0, 1], minus mean {rounded(encoder.mean)}, over std {rounded(encoder.std)}{colour(encoder)}")


def sizes(config: Mapping[str, Any]) -> tuple[int, int]:
    """Of the images that a run's encoder sees."""
    side = int(config["data"].get("eval_size") or config["data"]["store_size"])
    return side, side


def torchvision_layout(encoder: Encoder, node: Mapping[str, Any], file: Path, images: Tensor) -> tuple[Tensor, str]:
    """A `torchvision.models.resnet*` without its classifier."""
    backbone = resnet_of(encoder, node, "torchvision")
    save(backbone.state_dict(), file, encoder)
    model = getattr(torchvision.models, f"resnet{node['depth']}")()
    lines = ["import torchvision, torch, safetensors.torch", f"model = torchvision.models.resnet{node['depth']}()"]
    if node.get("stem", "small") == "small":
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        lines += ["model.conv1, model.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()"]
    model.fc = nn.Identity()
    lines += ["model.fc = torch.nn.Identity()", f"model.load_state_dict(safetensors.torch.load_file({str(file)!r}))"]
    model.load_state_dict(load_file(file))
    with torch.inference_mode():
        return model.eval()(images), "\n".join(lines)


def timm_layout(encoder: Encoder, node: Mapping[str, Any], file: Path, images: Tensor) -> tuple[Tensor, str]:
    """A timm model without its classifier: the one that was trained, or timm's ResNet."""
    if isinstance(encoder.backbone, TimmBackbone):
        name, options = str(node["name"]), dict(node.get("options") or {})
        save(encoder.backbone.model.state_dict(), file, encoder)
    else:
        backbone, name, options = resnet_of(encoder, node, "timm"), f"resnet{node['depth']}", {}
        if node.get("stem", "small") == "small":
            raise ValueError("layout=timm: timm's resnets have the stem for ImageNet; set layout=torchvision")
        save(backbone.state_dict(), file, encoder)
    model = timm.create_model(name, num_classes=0, **options).eval()
    model.load_state_dict(load_file(file))
    keywords = f"num_classes=0, checkpoint_path={str(file)!r}{words(options)}"
    how = f"import timm\nmodel = timm.create_model({name!r}, {keywords})"
    with torch.inference_mode():
        return model(images), how


def huggingface_layout(encoder: Encoder, node: Mapping[str, Any], file: Path, images: Tensor) -> tuple[Tensor, str]:
    """`ResNetModel` of transformers; its stem is that for ImageNet."""
    backbone = resnet_of(encoder, node, "huggingface")
    if node.get("stem", "small") == "small":
        raise ValueError("layout=huggingface: its ResNet has the stem for ImageNet; set layout=torchvision")
    if find_spec("transformers") is None:
        raise ValueError("layout=huggingface is tried by transformers before it is kept: pip install transformers")
    import transformers

    save({to_huggingface(name): tensor for name, tensor in backbone.state_dict().items()}, file, encoder)
    basic = node["depth"] in (18, 34)
    layers = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}
    settings: dict[str, Any] = {
        "depths": layers[node["depth"]],
        "hidden_sizes": backbone.stage_channels,
        "layer_type": "basic" if basic else "bottleneck",
    }
    model: Any = transformers.ResNetModel(transformers.ResNetConfig(**settings))
    model.load_state_dict(load_file(file))
    with torch.inference_mode():
        pooled: Tensor = model.eval()(images).pooler_output.flatten(1)
    return pooled, f"transformers.ResNetModel(transformers.ResNetConfig(**{settings!r}))"


def through_onnx(encoder: Encoder, file: Path, images: Tensor) -> tuple[Tensor, str]:
    """Any backbone, for images of any number; read back by onnxruntime."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ValueError(f"to={file}: needs {', '.join(missing)}; pip install 'ssl-lab[export]'")
    import onnxruntime

    torch.onnx.export(
        encoder.backbone.eval(), (images,), file, input_names=["images"], output_names=["features"], dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},), external_data=False, verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file)
    found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    return found, f"onnxruntime.InferenceSession({str(file)!r}).run(None, {{'images': images}})"


def resnet_of(encoder: Encoder, node: Mapping[str, Any], layout: str) -> ResNet:
    """The encoder's backbone where the layout can hold it. Raises ValueError with the reason where not."""
    if not isinstance(encoder.backbone, ResNet) or node.get("width", 1.0) != 1.0:
        what = str(node["_target_"]).rpartition(".")[2] + (f" of width {node['width']}" if "width" in node else "")
        raise ValueError(f"layout={layout}: it has no {what}; to=<file>.onnx holds any backbone")
    return encoder.backbone


def save(tensors: Mapping[str, Tensor], file: Path, encoder: Encoder) -> None:
    """Tensors, with the preprocessing in the file's own description."""
    described = {name: str(value) for name, value in encoder.preprocessing.items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata=described)


def words(options: Mapping[str, Any]) -> str:
    """Keywords as they are typed."""
    return "".join(f", {name}={value!r}" for name, value in options.items())


def rounded(values: tuple[float, ...]) -> str:
    """Figures of the channels for the screen."""
    return ", ".join(f"{value:.4f}" for value in values)


def colour(encoder: Encoder) -> str:
    """What an encoder that sees lightness alone needs to be said."""
    return "" if encoder.color == "rgb" else "; lightness L*/100 in all three channels, with the means of these"


LAYOUTS: dict[str, Callable[[Encoder, Mapping[str, Any], Path, Tensor], tuple[Tensor, str]]] = {
    "torchvision": torchvision_layout,
    "timm": timm_layout,
    "huggingface": huggingface_layout,
}
