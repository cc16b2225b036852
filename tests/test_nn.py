"""Networks: shapes, names, and what they promise to the rest."""

import pytest
import torch
import torchvision
from torch import nn

from ssl_lab import recipes
from ssl_lab.build import build
from ssl_lab.nn import MLP, ConvNet, Encoder, NetworkInNetwork, ResNet, TimmBackbone

BACKBONES = recipes.options()["backbone"]


@pytest.mark.parametrize("option", BACKBONES)
def test_every_backbone_keeps_its_promises(option: str) -> None:
    config, _ = recipes.compose("train", [f"backbone={option}"])
    backbone = build(config["method"]["backbone"]).eval()
    images = torch.rand(2, 3, 64, 64)
    assert backbone(images).shape == (2, backbone.num_features)
    maps = backbone.stages(images)
    assert [m.shape[1] for m in maps] == backbone.stage_channels
    for feature_map, stride in zip(maps, backbone.stage_strides, strict=True):
        assert abs(feature_map.shape[-1] - 64 / stride) <= 1


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_is_torchvisions(depth: int) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, f"resnet{depth}")().eval()
    ours = ResNet(depth, stem="imagenet").eval()  # type: ignore[arg-type]
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")})
    theirs.fc = nn.Identity()
    images = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        assert torch.allclose(ours(images), theirs(images), atol=1e-5)


def test_width_scales_every_layer() -> None:
    quarter, full = ResNet(18, width=0.25), ResNet(18)
    assert quarter.num_features * 4 == full.num_features
    assert quarter.conv1.out_channels * 4 == full.conv1.out_channels
    with pytest.raises(ValueError, match=r"backbone\.width"):
        ResNet(18, width=0.001)


def test_the_small_stem_pads_as_it_is_told() -> None:
    plain, solo = ResNet(18, width=0.25), ResNet(18, width=0.25, stem_padding=2)
    assert plain.stages(torch.rand(1, 3, 32, 32))[0].shape[-1] == 32
    assert solo.stages(torch.rand(1, 3, 32, 32))[0].shape[-1] == 34


@pytest.mark.parametrize("blocks", [3, 4, 5])
def test_rotnets_network_has_its_papers_maps(blocks: int) -> None:
    net = NetworkInNetwork(blocks)
    maps = net.stages(torch.rand(2, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(96, 16, 16), (192, 8, 8), *[(192, 8, 8)] * (blocks - 2)]
    assert [m.kernel_size[0] for m in net.modules() if isinstance(m, nn.Conv2d)] == [
        *(5, 1, 1) * 2,
        *(3, 1, 1) * (blocks - 2),
    ]
    assert len(net.parts()) == blocks
    with pytest.raises(ValueError, match=r"backbone\.blocks=1"):
        NetworkInNetwork(1)


def test_whitening_makes_patches_white() -> None:
    torch.manual_seed(0)
    base = torch.randn(64, 3, 9, 9)
    images = base + base.roll(1, 3) + 0.5 * base.roll(1, 2)  # neighbours correlate
    net = ConvNet([8], epsilon=0.0)
    net.fit(images)
    responses = net.stem(images)[:, :12].permute(1, 0, 2, 3).flatten(1)
    assert torch.allclose(responses @ responses.T / responses.shape[1], torch.eye(12), atol=1e-3)
    assert torch.equal(net.stem.weight[:12], -net.stem.weight[12:])
    assert not net.stem.weight.requires_grad


def test_an_unknown_timm_model_is_refused_with_near_names() -> None:
    with pytest.raises(ValueError, match="resnet18"):
        TimmBackbone("resnet18_of_ours")


def test_mlp_layers() -> None:
    head = MLP(6, [None, 5, 3], norm="batch", last_norm="batch_without_affine")
    kinds = [type(layer).__name__ for layer in head.layers]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert [layer.out_features for layer in head.layers if isinstance(layer, nn.Linear)] == [6, 5, 3]
    assert head.num_features == 3
    assert not head.layers[-1].affine
    assert head(torch.rand(4, 6)).shape == (4, 3)


def test_encoder_prepares_images_as_it_says() -> None:
    class Flat(nn.Module):
        num_features = 3 * 4 * 4

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)

    images = torch.randint(0, 256, (2, 3, 12, 8), dtype=torch.uint8)
    encoder = Encoder(Flat(), mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], resize=None, crop=4)
    expected = images[:, :, 4:8, 2:6].float() / 255 * 2 - 1
    assert torch.allclose(encoder(images), expected.flatten(1), atol=1e-6)
    again = Encoder(Flat(), **encoder.preprocessing)
    assert torch.equal(again(images), encoder(images))
