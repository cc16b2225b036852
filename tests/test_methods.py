"""The method matrix: what every method must do, for every yaml in `conf/method`."""

from functools import cache
from typing import Any

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_lab import recipes
from ssl_lab.build import build
from ssl_lab.draws import Draws
from ssl_lab.methods import Method, flops_per_image
from ssl_lab.run import check_parts

METHODS = recipes.options()["method"]
PREPROCESSING = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "resize": None, "crop": None}
SMALL = ["backbone=resnet18", "method.backbone.width=0.125", "data=digits"]


def make(name: str, *overrides: str) -> Method:
    torch.manual_seed(0)
    config, _ = recipes.compose("train", [f"method={name}", *SMALL, *overrides])
    method: Method = build(config["method"], preprocessing=PREPROCESSING, seed=0)
    return method


def images(n: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def draws(n: int = 16, counter: int = 0) -> Draws:
    return Draws(seed=0, counter=counter, total=n)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_finite_and_trains_every_parameter(name: str) -> None:
    method = make(name)
    step = method.step(images(), draws())
    assert step.loss.shape == ()
    assert torch.isfinite(step.loss)
    assert step.features.shape == (16, method.encoder.num_features)
    assert not step.features.requires_grad
    step.loss.backward()
    for parameter_name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert torch.isfinite(parameter.grad).all(), parameter_name
            assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", METHODS)
def test_a_step_follows_from_its_draws_alone(name: str) -> None:
    losses = []
    for global_seed in (1, 2):
        method = make(name)
        torch.manual_seed(global_seed)
        losses.append(method.step(images(), draws(counter=5)).loss.item())
    assert losses[0] == losses[1]
    assert make(name).step(images(), draws(counter=6)).loss.item() != losses[0]


@pytest.mark.parametrize("name", METHODS)
def test_saved_and_loaded_a_method_gives_the_same_loss(name: str, tmp_path: Any) -> None:
    method = make(name)
    torch.save(method.state_dict(), tmp_path / "method.pt")
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1)
    other = method.step(images(), draws()).loss.item()
    again = make(name)
    again.load_state_dict(torch.load(tmp_path / "method.pt", weights_only=True))
    assert again.step(images(), draws()).loss.item() == make(name).step(images(), draws()).loss.item() != other


@pytest.mark.parametrize(("name", "apart"), [("simclr", False), ("vicreg", True), ("barlow_twins", True)])
def test_batch_norm_sees_the_views_together_or_one_at_a_time(name: str, apart: bool) -> None:
    method = make(name)
    seen: list[int] = []
    norms = [
        next(m for m in part.modules() if isinstance(m, _BatchNorm)) for part in (method.encoder, method.projector)
    ]
    for norm in norms:
        norm.register_forward_hook(lambda _module, given, _made: seen.append(len(given[0])))
    loss = method.step(images(), draws()).loss
    assert seen == ([16] * 4 if apart else [32] * 2)
    views = [method.encoder.normalize(view) for view in method.views(images(), draws())]
    groups = views if apart else [torch.cat(views)]
    again = torch.cat([method.projector(method.encoder.backbone(group)) for group in groups]).chunk(2)
    assert loss.item() == pytest.approx(method.loss(*again).item(), rel=1e-5)


TWO_VIEW = ["simclr", "barlow_twins", "vicreg", "emp_ssl"]
OTHER_LOSSES = {"info_nce", "info_nce_v1", "cross_entropy", "soft_cross_entropy", "squared_error"}
TWO_VIEW_LOSSES = sorted(set(recipes.options()["loss"]) - OTHER_LOSSES)


@pytest.mark.parametrize("backbone", recipes.options()["backbone"])
def test_every_backbone_trains(backbone: str) -> None:
    torch.manual_seed(0)
    config, _ = recipes.compose("train", [f"backbone={backbone}", "data=digits"])
    method: Method = build(config["method"], preprocessing=PREPROCESSING, seed=0)
    assert torch.isfinite(method.step(images(2), draws(2)).loss)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("backbone", ["backbone=convnet", "backbone=timm"])
def test_every_method_trains_every_kind_of_backbone(name: str, backbone: str) -> None:
    torch.manual_seed(0)
    widths = "method.backbone.widths=[8,8,8]" if backbone.endswith("convnet") else "method.backbone.name=resnet10t"
    config, _ = recipes.compose("train", [f"method={name}", backbone, widths, "data=digits"])
    method: Method = build(config["method"], preprocessing=PREPROCESSING, seed=0)
    assert torch.isfinite(method.step(images(), draws()).loss)


@pytest.mark.parametrize("projector", recipes.options()["projector"])
@pytest.mark.parametrize("loss", TWO_VIEW_LOSSES)
@pytest.mark.parametrize("name", TWO_VIEW)
def test_every_two_view_method_takes_every_two_view_loss_and_projector(name: str, loss: str, projector: str) -> None:
    method = make(name, f"loss={loss}", f"projector={projector}", "method.views.count=2")
    assert torch.isfinite(method.step(images(4), draws(4)).loss)


@pytest.mark.parametrize("projector", recipes.options()["projector"])
@pytest.mark.parametrize("loss", TWO_VIEW_LOSSES)
def test_moco_v3_takes_every_two_view_loss_and_projector(loss: str, projector: str) -> None:
    assert torch.isfinite(make("moco_v3", f"loss={loss}", f"projector={projector}").step(images(), draws()).loss)


@pytest.mark.parametrize("projector", recipes.options()["projector"])
def test_moco_takes_every_projector(projector: str) -> None:
    assert torch.isfinite(make("moco_v2", f"projector={projector}").step(images(), draws()).loss)


@pytest.mark.parametrize(
    ("task", "whole"), [("rotation", True), ("jigsaw", False), ("jigsaw_3x3", False), ("context", False)]
)
def test_the_task_says_whether_batch_norm_sees_whole_images(task: str, whole: bool) -> None:
    for method in ("rotation", "jigsaw"):
        assert make(method, f"task={task}", "data.store_size=64").whole_images is whole


@pytest.mark.parametrize("task", ["inpainting", "inpainting_regions"])
def test_batch_norm_sees_holes_and_whole_images_where_colours_are_asked(task: str) -> None:
    assert not make("inpainting", f"task={task}").whole_images
    assert make("colorization").whole_images


@cache
def option(group: str, name: str, size: int) -> dict[str, Any]:
    """What an option of a group is for images of a size."""
    words = [f"{group}={name}", f"data.store_size={size}", "method.views.count=2"]
    part: dict[str, Any] = recipes.compose("train", words)[0]["method"][group]
    return part


@cache
def composed(name: str, size: int) -> dict[str, Any]:
    """A method for images of a size."""
    return recipes.compose("train", [f"method={name}", *SMALL, f"data.store_size={size}"])[0]


def checked(config: dict[str, Any], refusal: str | None, **parts: Any) -> None:
    """A method takes these parts, or says why not."""
    swapped = config | {"method": config["method"] | parts}
    if refusal is None:
        check_parts(swapped)
    else:
        with pytest.raises(ValueError, match=refusal):
            check_parts(swapped)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_every_backbone_or_says_why_not(name: str) -> None:
    behind = "lies behind its last stage" if name in ("colorization", "inpainting") else None
    for backbone in recipes.options()["backbone"]:
        refusal = behind if backbone == "resnet18_emp" else None
        checked(composed(name, 64), refusal, backbone=option("backbone", backbone, 64))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_every_view_policy_or_says_why_not(name: str) -> None:
    refusals = {("context", "simclr_cifar_4x20"): "need 30 px, and the images have 20"}
    refusals |= {(task, "pad_flip"): r"pad=4 puts a black border" for task in ("context", "jigsaw")}
    for views in recipes.options()["views"]:
        policies = option("views", views, 32) | {"count": composed(name, 32)["method"]["views"]["count"]}
        checked(composed(name, 32), refusals.get((name, views)), views=policies)


def test_methods_are_what_their_papers_say() -> None:
    def node(*words: str) -> dict[str, Any]:
        method: dict[str, Any] = recipes.compose("train", list(words))[0]["method"]
        return method

    v1, v2 = node("method=moco_v1"), node("method=moco_v2")
    assert (v1["projector"]["widths"], v2["projector"]["widths"]) == ([128], [None, 128])
    assert (v1["loss"]["temperature"], v2["loss"]["temperature"]) == (0.07, 0.2)
    assert v2["views"]["policies"]["each"]["blur"] == 0.5
    barlow = node("method=barlow_twins")
    assert barlow["loss"]["redundancy"] == 0.005
    assert len(barlow["projector"]["widths"]) == 3
    assert node("method=jigsaw", "task=jigsaw_3x3", "data.store_size=64")["task"]["permutations"] == 100
    thousand = make("jigsaw", "task=jigsaw_3x3", "data.store_size=64", "method.task.permutations=1000")
    assert thousand.step(images(2), draws(2)).logs["pretext_chance"] == pytest.approx(1e-3)


DENSE_TASKS = ["colorization", "inpainting", "inpainting_regions"]
DENSE_HEADS = ["upsampler", "hypercolumn"]
CLASS_TASKS = sorted(set(recipes.options()["task"]) - set(DENSE_TASKS))
CLASS_HEADS = sorted(set(recipes.options()["head"]) - set(DENSE_HEADS))


@pytest.mark.parametrize("task", CLASS_TASKS)
@pytest.mark.parametrize("head", CLASS_HEADS)
def test_every_task_takes_every_head(task: str, head: str) -> None:
    step = make("rotation", f"task={task}", f"head={head}", "data.store_size=64").step(images(), draws())
    assert torch.isfinite(step.loss)
    assert 0 <= step.logs["pretext_top1"] <= 1
    assert 0 < step.logs["pretext_chance"] <= 0.25


@pytest.mark.parametrize("head", DENSE_HEADS)
@pytest.mark.parametrize(
    ("method", "task", "loss"),
    [
        ("colorization", "colorization", "soft_cross_entropy"),
        ("colorization", "colorization", "squared_error"),
        ("inpainting", "inpainting", "squared_error"),
        ("inpainting", "inpainting_regions", "squared_error"),
    ],
)
def test_every_dense_task_takes_every_dense_head_and_loss(method: str, task: str, loss: str, head: str) -> None:
    made = make(method, f"task={task}", f"head={head}", f"loss={loss}")
    made.prepare(images())
    assert torch.isfinite(made.step(images(), draws()).loss)
    assert made.preview(images()).shape == (16, 3, 3, 32, 32)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["method=rotation", "loss=nt_xent"], "loss"),
        (["method=rotation", "projector=mlp2"], "projector"),
        (["method=simclr", "loss=cross_entropy"], "loss"),
        (["method=simclr", "loss=info_nce"], "loss"),
        (["method=simclr", "task=rotation"], "task"),
        (["method=moco_v2", "loss=barlow_twins"], "loss"),
        (["method=jigsaw", "task=jigsaw_3x3", "data.store_size=8"], "tile"),
        (["method=context", "data.store_size=16"], "patches"),
        (["method=colorization", "loss=cross_entropy"], "loss=soft_cross_entropy"),
        (["method=colorization", "head=linear"], "head=upsampler"),
        (["method=colorization", "data.store_size=30"], "divisor"),
        (["method=colorization", "task=rotation"], "task"),
        (["method=inpainting", "loss=soft_cross_entropy"], "loss=squared_error"),
        (["method=inpainting", "method.task.fraction=0.001", "data.store_size=8"], "pixel"),
        (["method=rotation", "task=inpainting"], "task=rotation"),
        (["method=rotation", "head=upsampler"], "head=linear"),
        (["method=barlow_twins", "views=simclr_cifar_4x20"], "count=2"),
        (["method=simclr", "views=shift_flip"], "count=2"),
        (["method=moco_v3", "method.predictor.widths=[64,64]"], r"method\.predictor: .*null"),
        (["method=moco_v2", "method.splits=0"], r"method\.splits=0"),
        (["method=moco_v3", "method.momentum=1.5"], r"method\.momentum=1\.5"),
        (["method=colorization", "task=inpainting"], "task=colorization"),
        (["method=inpainting", "task=colorization"], "task=inpainting"),
        (["method=inpainting", "method.task.fraction=0.9999"], "method.task.fraction to less"),
        (["method=colorization", "method.palette.uniform=0"], "uniform"),
        (["method=jigsaw", "method.task.gap=-1"], r"method\.task\.gap=-1"),
        (["method=jigsaw", "task=jigsaw_3x3", "backbone=convnet"], "ConvNet cannot take the images of 6 px"),
        (["method=context", "method.task.size=6", "backbone=convnet"], "ConvNet cannot take the images of 6 px"),
        (["backbone=timm", "method.backbone.name=vit_tiny_patch16_224"], "cannot take the images of 32 px"),
        (["method=moco_v2", "+method.momentum_end=1.5"], r"method\.momentum_end=1\.5"),
    ],
    ids=str,
)
def test_parts_that_do_not_fit_are_refused_before_any_data(overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_parts(recipes.compose("train", overrides)[0])


@pytest.mark.parametrize("views", recipes.options()["views"])
def test_every_view_policy_trains(views: str) -> None:
    method = make("simclr", f"views={views}", "data.store_size=32", "method.views.count=2")
    assert torch.isfinite(method.step(images(), draws()).loss)


def test_views_of_unlike_sizes_share_the_loss() -> None:
    from ssl_lab.views import Policy, Views

    method = make("simclr")
    method.views = Views([Policy(size=32), Policy(size=20)], count=4)  # type: ignore[assignment]
    sizes = []
    method.encoder.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
    assert torch.isfinite(method.step(images(), draws()).loss)
    assert sizes == [32, 20, 32, 20]


def test_the_loss_sees_float32_under_autocast() -> None:
    method = make("simclr")
    seen = []
    loss = method.loss
    method.loss = lambda *z: seen.extend(p.dtype for p in z) or loss(*z)  # type: ignore[assignment, operator]
    with torch.autocast("cpu", torch.bfloat16):
        method.step(images(), draws())
    assert set(seen) == {torch.float32}


def test_flops_are_counted_forward_and_backward() -> None:
    method = make("simclr", "projector=linear")
    forward = 0

    def count(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal forward
        forward += 2 * module.weight[0].numel() * output.numel() // len(output)  # type: ignore[index, union-attr]

    for module in method.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    method.step(images(), draws())
    for module in method.modules():
        module._forward_hooks.clear()
    assert flops_per_image(method, images(4), 256) == pytest.approx(2 * 3 * forward, rel=0.02)
