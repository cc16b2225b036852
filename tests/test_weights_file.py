"""Weights of others: every layout is found, and what is missing is never loaded in silence."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ssl_lab.candidates import weights_file
from ssl_lab.nn import ResNet, TimmBackbone
from ssl_lab.records.weights_file import load_weights

State = dict[str, Tensor]


def state(seed: int = 1, width: float = 0.125) -> State:
    """The tensors of a small ResNet by torchvision's names."""
    torch.manual_seed(seed)
    network = ResNet(stem="imagenet", width=width)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_()  # type: ignore[union-attr]
    return network.state_dict()


def prefixed(prefix: str, tensors: State) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def moco(tensors: State) -> State:
    return prefixed("module.encoder_k.", state(2)) | prefixed("module.encoder_q.", tensors)


def lightly(tensors: State) -> State:
    order = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    renamed = {}
    for name, tensor in tensors.items():
        head, _, rest = name.partition(".")
        renamed[f"backbone.{order[head]}.{rest}"] = tensor
        renamed[f"backbone_momentum.{order[head]}.{rest}"] = torch.zeros_like(tensor)
    return renamed | {"projection_head.layers.0.weight": torch.zeros(3, 3)}


def huggingface(tensors: State) -> State:
    renamed = {}
    for name, tensor in tensors.items():
        new = re.sub(r"^conv1", "embedder.embedder.convolution", name)
        new = re.sub(r"^bn1", "embedder.embedder.normalization", new)
        new = re.sub(r"^layer(\d)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.", new)
        new = re.sub(r"\.conv(\d)", lambda m: f".layer.{int(m[1]) - 1}.convolution", new)
        new = re.sub(r"\.bn(\d)", lambda m: f".layer.{int(m[1]) - 1}.normalization", new)
        new = new.replace("downsample.0", "shortcut.convolution").replace("downsample.1", "shortcut.normalization")
        renamed[f"resnet.{new}"] = tensor
    return renamed | {"classifier.1.weight": torch.zeros(10, 64)}


LAYOUTS: dict[str, Callable[[State], object]] = {
    "torchvision": lambda t: t | {"fc.weight": torch.zeros(10, 64), "fc.bias": torch.zeros(10)},
    "old torchvision": lambda t: {k: v for k, v in t.items() if not k.endswith("num_batches_tracked")},
    "moco": lambda t: {"epoch": 200, "state_dict": moco(t)},
    "lightly": lambda t: {"state_dict": lightly(t)},
    "solo-learn": lambda t: {"state_dict": prefixed("momentum_backbone.", state(3)) | prefixed("backbone.", t)},
    "vissl": lambda t: {"classy_state_dict": {"base_model": {"model": {"trunk": prefixed("_feature_blocks.", t)}}}},
    "simclr-pytorch": lambda t: {"state_dict": prefixed("convnet.", t)},
    "barlow twins": lambda t: {
        "model": prefixed("module.backbone.", t) | {"module.projector.0.weight": torch.ones(4, 4)}
    },
    "data parallel": lambda t: {"model": prefixed("module.", t)},
    "huggingface": huggingface,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backbone", ["resnet", "timm"])
def test_every_layout_is_found(layout: str, backbone: str, tmp_path: Path) -> None:
    if backbone == "timm":
        network: nn.Module = TimmBackbone("resnet18")
        tensors = {name.removeprefix("model."): t for name, t in TimmBackbone("resnet18").state_dict().items()}
        if layout in ("moco", "solo-learn"):
            pytest.skip("the second network is made for the small ResNet")
    else:
        network, tensors = ResNet(stem="imagenet", width=0.125), state()
    file = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](tensors), file)
    match = load_weights(network, file)
    assert match.missing == match.misshapen == []
    for name, tensor in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, tensors[name.removeprefix("model.")]), name


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "weights.safetensors")
    network = ResNet(stem="imagenet", width=0.125)
    assert len(load_weights(network, tmp_path / "weights.safetensors").tensors) == len(network.state_dict())
    assert torch.equal(network.conv1.weight, state()["conv1.weight"])


def test_half_the_keys_renamed_are_refused_by_name(tmp_path: Path) -> None:
    tensors = {(f"x{k}" if i % 2 else k): v for i, (k, v) in enumerate(state().items())}
    torch.save(tensors, tmp_path / "weights.pth")
    network = ResNet(stem="imagenet", width=0.125)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"missing(.|\n)*allow_partial"):
        load_weights(network, tmp_path / "weights.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    match = load_weights(network, tmp_path / "weights.pth", allow_partial=True)
    assert match.missing
    for name in match.missing:
        assert torch.equal(network.state_dict()[name], before[name])


def test_another_architecture_is_refused_with_its_shapes(tmp_path: Path) -> None:
    torch.save(state(width=0.25), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"\(16, 3, 7, 7\) in the file, \(8, 3, 7, 7\) here"):
        load_weights(ResNet(stem="imagenet", width=0.125), tmp_path / "weights.pth")


def test_a_deeper_network_is_refused_by_what_it_has_more(tmp_path: Path) -> None:
    torch.manual_seed(0)
    deep = ResNet(34, stem="imagenet", width=0.125)
    torch.save({"state_dict": prefixed("backbone.", deep.state_dict())}, tmp_path / "weights.pth")
    network = ResNet(stem="imagenet", width=0.125)
    with pytest.raises(ValueError, match=r"layer1\.2\.conv1\.weight: in the file, not in the backbone"):
        load_weights(network, tmp_path / "weights.pth")
    assert load_weights(network, tmp_path / "weights.pth", allow_partial=True).missing == []


def test_the_stem_for_large_images_is_named_where_it_alone_does_not_fit(tmp_path: Path) -> None:
    torch.save(ResNet(stem="imagenet").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="resnet50_imagenet"):
        load_weights(ResNet(stem="small"), tmp_path / "weights.pth")


def test_a_file_that_is_cut_off_absent_or_empty_is_refused(tmp_path: Path) -> None:
    network = ResNet(stem="imagenet", width=0.125)
    torch.save(state(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-20000])
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 100)
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    torch.save(state(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    spoiled = (tmp_path / "old.pth").read_bytes().replace(b"conv1.weight", b"\xffonv1.weight")
    (tmp_path / "spoiled.pth").write_bytes(spoiled)
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><title>404: not found</title>")
    for name, said in (
        ("cut.pth", "cut off"),
        ("cut.safetensors", "cut off"),
        ("spoiled.pth", "cut off"),
        ("no.pth", "no such"),
        ("empty.pth", "no tensors"),
        ("page.pth", "no file of weights: it begins with b'<!DOCTYPE html>"),
    ):
        with pytest.raises(ValueError, match=said):
            load_weights(network, tmp_path / name)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("/nonexistent",))


def test_a_pickle_that_could_run_code_is_refused_with_the_safe_way(tmp_path: Path) -> None:
    with (tmp_path / "old.pth").open("wb") as stream:
        pickle.dump({"state_dict": state(), "args": Evil()}, stream, protocol=2)
    torch.save({"state_dict": state(), "args": Evil()}, tmp_path / "new.pth")
    for name in ("old.pth", "new.pth"):
        with pytest.raises(ValueError, match="weights_only=False"):
            load_weights(ResNet(stem="imagenet", width=0.125), tmp_path / name)


def test_torchvisions_names_stand_for_what_its_hub_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    held = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    held.parent.mkdir(parents=True)
    held.write_bytes(b"there")
    assert weights_file("ResNet18_Weights.IMAGENET1K_V1") == held
    assert weights_file("mine.pth") == Path("mine.pth")
    with pytest.raises(ValueError, match="torchvision has no such weights"):
        weights_file("ResNet18_Weights.NONE_SUCH")

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ValueError, match=r"cannot be fetched \(no network\); put it at .*resnet34"):
        weights_file("ResNet34_Weights.IMAGENET1K_V1")
