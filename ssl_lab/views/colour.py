"""Colour distortions, each sample with its own strengths; equal to `torchvision.transforms.v2.functional` row by row.

Brightness, contrast and saturation are one formula: f x + (1 - f) y, held within [0, 1], where y is black,
the image's mean brightness, or each pixel's brightness. Only hue is different.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssl_lab.draws import Draws
from ssl_lab.pixels import luma

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # torchvision's numbering

Images = Float[Tensor, "n 3 h w"]
Factor = Float[Tensor, " n"]


def column(values: Tensor, images: Tensor) -> Tensor:
    """One value a row, beside the images."""
    return values.to(images.device).view(-1, 1, 1, 1)


def blend_(images: Images, other: Float[Tensor, "n 1 #h #w"], factor: Factor) -> Images:
    """factor * images + (1 - factor) * other within [0, 1], in place."""
    return torch.lerp(other, images, column(factor, images), out=images).clamp_(0, 1)


def adjust_brightness(images: Images, factor: Factor) -> Images:
    """Blend with black: 0 is black, 1 changes nothing."""
    return (images * column(factor, images)).clamp_(0, 1)


def adjust_contrast(images: Images, factor: Factor) -> Images:
    """Blend with the image's mean brightness: 0 is flat grey, 1 changes nothing."""
    return blend_(images.clone(), luma(images).mean((2, 3), keepdim=True), factor)


def adjust_saturation(images: Images, factor: Factor) -> Images:
    """Blend with the image without colour: 0 is grey, 1 changes nothing."""
    return blend_(images.clone(), luma(images), factor)


def adjust_hue(images: Images, factor: Factor) -> Images:
    """Turn the hue by `factor` of the circle (-0.5 .. 0.5), value and chroma of HSV kept."""
    return turn_hue_(images.clone(), factor)


def turn_hue_(images: Images, factor: Factor) -> Images:
    """The same in place, without going to HSV and back.

    With M and m the largest and smallest channel and C = M - m, the hue in sixths of the circle is
    H = ±((g + b - r - m) / C + 1), with the sign of g - b; and each channel is m + C t(H + turn), where t falls
    from 1 at its own colour to 0 over the third of the circle around it: t(x) = clamp(||x| - 3| - 1, 0, 1), |x| <= 7.
    """
    red, green, blue = images.unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue).unsqueeze(1)
    smallest = torch.minimum(torch.minimum(red, green), blue).unsqueeze(1)
    chroma = largest - smallest
    hue = (green + blue).sub_(red).sub_(smallest[:, 0]).div_(chroma[:, 0].clamp(min=1e-12)).add_(1)
    hue.copysign_(green - blue)
    turn = 6 * column(factor, images)
    # Green lies two sixths and blue four before red; the other way round where the turn is negative, to keep |x| <= 7.
    ahead = torch.arange(0, 6, 2, device=images.device).view(3, 1, 1)
    centres = torch.where(turn < 0, ahead.remainder(-6), ahead)
    torch.add(hue.unsqueeze(1), turn - centres, out=images).abs_().sub_(3).abs_()
    torch.addcmul(smallest - chroma, chroma, images, out=images)
    return torch.clamp(images, smallest, largest, out=images)


def solarise(images: Float[Tensor, "n c h w"], threshold: float) -> Float[Tensor, "n c h w"]:
    """Invert what is at least as bright as the threshold."""
    return torch.where(images >= threshold, 1 - images, images)


def blend_step_(images: Images, operation: Int[Tensor, " n"], factor: Factor) -> Images:
    """Brightness, contrast or saturation, whichever each row asks for, in place."""
    grey = luma(images)
    mean = grey.mean((2, 3), keepdim=True)
    grey.mul_(column(operation == SATURATION, images)).add_(mean.mul_(column(operation == CONTRAST, images)))
    return blend_(images, grey, factor)


def jitter(images: Images, factors: Float[Tensor, "n 4"], order: Int[Tensor, "n 4"]) -> Images:
    """Brightness, contrast, saturation and hue, in each row's own order: torchvision's `ColorJitter`."""
    return jitter_(images.clone(), torch.arange(len(images)), factors, order)


def jitter_(
    images: Images, rows: Int[Tensor, " m"], factors: Float[Tensor, "n 4"], order: Int[Tensor, "n 4"]
) -> Images:
    """The same in place, for `rows` only.

    The rows are sorted by when their hue turns. Then three blends of all of them, with the hue of about a quarter
    before each and after the last, make every order without a gather between.
    """
    when = (order[rows] == HUE).byte().argmax(1)
    rows = rows[when.argsort(stable=True)]
    groups = torch.bincount(when, minlength=4).tolist()
    order, hue = order[rows], factors[rows, HUE]
    blends = order[order != HUE].view(-1, 3)
    strengths = factors[rows].gather(1, blends)
    here = rows.to(images.device)
    result = images.index_select(0, here)
    start, turns = 0, bool(hue.any())
    for step, group in enumerate(groups):
        if group and turns:
            turn_hue_(result[start : start + group], hue[start : start + group])
        if step < 3:
            blend_step_(result, blends[:, step], strengths[:, step])
        start += group
    return images.index_copy_(0, here, result)


def draw_jitter(draws: Draws, strengths: list[float]) -> tuple[Float[Tensor, "n 4"], Int[Tensor, "n 4"]]:
    """Factors (the first three within 1 ± strength, not below 0; hue within ± strength) and an order, for each row."""
    reach = torch.tensor(strengths)
    low, high = (1 - reach).clamp_(min=0), 1 + reach
    low[HUE], high[HUE] = -reach[HUE], reach[HUE]
    factors = low + (high - low) * draws.uniform(4)
    return factors, draws.uniform(4).argsort(1)
