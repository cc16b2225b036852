"""Exports are opened by the library they are for, and give the same features there."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from ssl_lab import recipes
from ssl_lab.handover import handover
from ssl_lab.nn import ResNet
from ssl_lab.records import RunFolder, find_run, load_weights, save_encoder


def finished(folder: Path, *overrides: str) -> Path:
    """A run folder as training leaves it, with weights that training could have left."""
    from ssl_lab.build import build

    torch.manual_seed(0)
    config = recipes.compose("train", ["data=photos", *overrides])[0]
    method: Any = build(config["method"], preprocessing={"mean": [0.4] * 3, "std": [0.2] * 3}, seed=0)
    for module in method.encoder.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    run = RunFolder(folder / "run")
    run.start(config)
    save_encoder(method.encoder, config["method"]["backbone"], run.path)
    run.update(status="finished")
    return run.path


def export(run: Path, to: Path, layout: str = "torchvision") -> None:
    handover(recipes.compose("export", [f"run={run}", f"to={to}", f"layout={layout}"])[0])


@pytest.mark.parametrize("backbone", ["resnet18", "resnet18_imagenet"])
def test_torchvision_opens_what_it_is_given(backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, file = finished(tmp_path, f"backbone={backbone}"), tmp_path / "out.safetensors"
    if backbone == "resnet18":
        config = find_run(run).config
        assert config["method"]["backbone"].get("width", 1.0) == 1.0
    export(run, file)
    printed = capsys.readouterr().out
    lines = printed.split("largest\n")[1].split("\nimages:")[0]
    scope: dict[str, Any] = {}
    exec(lines, scope)  # what a user is told to type
    assert isinstance(scope["model"], torchvision.models.ResNet)
    again = ResNet(18, "imagenet" if backbone.endswith("imagenet") else "small")
    assert load_weights(again, file).missing == []
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(again.eval()(images), scope["model"].eval()(images), atol=1e-5)


def test_timm_opens_its_own_models_and_its_resnets(tmp_path: Path) -> None:
    own = finished(tmp_path / "a", "backbone=timm", "method.backbone.name=resnet10t")
    export(own, tmp_path / "own.safetensors", "timm")
    export(finished(tmp_path / "b", "backbone=resnet18_imagenet"), tmp_path / "resnet.safetensors", "timm")
    assert "layer1.0.conv1.weight" in load_file(tmp_path / "resnet.safetensors")


@pytest.mark.parametrize("depth", [18, 50])
def test_transformers_opens_its_layout(depth: int, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    run = finished(tmp_path, "backbone=resnet18_imagenet", f"method.backbone.depth={depth}")
    export(run, tmp_path / "out.safetensors", "huggingface")
    assert "embedder.embedder.convolution.weight" in load_file(tmp_path / "out.safetensors")


@pytest.mark.parametrize("backbone", ["backbone=convnet", "backbone=resnet18_quarter"])
def test_onnx_holds_any_backbone(backbone: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    export(finished(tmp_path, backbone), tmp_path / "out.onnx")
    session = runtime.InferenceSession(tmp_path / "out.onnx")
    for n in (1, 5):
        assert len(session.run(None, {"images": torch.rand(n, 3, 32, 32).numpy()})[0]) == n


def test_what_a_layout_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    run, to = finished(tmp_path, "backbone=convnet"), tmp_path / "out.safetensors"
    for folder, file, layout, said in (
        (run, to, "torchvision", "no ConvNet"),
        (run, to.with_suffix(".pth"), "torchvision", r"allowed: \.safetensors, \.onnx"),
        (run, to, "keras", "layout"),
        (tmp_path / "none", to, "torchvision", "no such folder"),
    ):
        with pytest.raises(ValueError, match=said):
            export(folder, file, layout)
    assert not to.exists()
    to.write_bytes(b"mine")
    with pytest.raises(ValueError, match="no ConvNet"):
        export(run, to, "torchvision")
    own = next(run.rglob("encoder.safetensors"))
    with pytest.raises(ValueError, match="the run's own encoder"):
        export(run, own, "torchvision")
    assert (to.read_bytes(), own.stat().st_size > 0, len(list(tmp_path.glob(".*")))) == (b"mine", True, 0)


def test_features_that_differ_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_lab import handover as module

    run, to = finished(tmp_path, "backbone=resnet18_imagenet"), tmp_path / "out.safetensors"
    layout = module.torchvision_layout

    def wrong(*given: Any) -> Any:
        features, how = layout(*given)
        return features + 0.01 * features.abs().max(), how

    monkeypatch.setitem(module.LAYOUTS, "torchvision", wrong)
    with pytest.raises(ValueError, match="differ"):
        export(run, to)
    assert not to.exists()
