"""What may happen to an image on its way to becoming a view."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ssl_lab.draws import Draws
from ssl_lab.pixels import grayscale, to_float
from ssl_lab.views.blur import gaussian_blur
from ssl_lab.views.colour import draw_jitter, jitter_, solarise
from ssl_lab.views.crop import Geometry, crop_resize, draw_geometry

Range = list[float] | tuple[float, float]


class Drawn(NamedTuple):
    """The parameters of one view of each row; None for what the policy never does."""

    boxes: Int[Tensor, "n 4"]
    flipped: Bool[Tensor, " n"]
    factors: Float[Tensor, "n 4"] | None
    order: Int[Tensor, "n 4"] | None
    jittered: Bool[Tensor, " n"] | None
    grey: Bool[Tensor, " n"] | None
    blurred: Bool[Tensor, " n"] | None
    sigma: Float[Tensor, " n"] | None
    solarised: Bool[Tensor, " n"] | None

    def part(self, start: int, stop: int) -> "Drawn":
        """The parameters of rows start:stop."""
        return Drawn._make(None if values is None else values[start:stop] for values in self)

    @classmethod
    def joined(cls, several: "list[Drawn]") -> "Drawn":
        """The parameters of the rows of several views of one policy, one view after the other."""
        return cls._make(None if values[0] is None else torch.cat(values) for values in zip(*several, strict=True))


class Policy:
    """One recipe for views: crop, flip, colour jitter, greyscale, blur, solarise, in this order.

    size: side of the view in pixels. scale: share of the image's area a crop takes; ratio: its width / height.
    pad: width of a black border that the image has before it is cropped; boxes then count from the border's corner.
    interpolation: of the resize; both are antialiased.
    flip, jitter, grayscale, blur, solarise: probability of each; what has 0 costs nothing and draws nothing.
    brightness, contrast, saturation: factors within 1 ± this; hue: turns within ± this share of the circle (<= 0.5).
    sigma: range of the blur's deviation in pixels. kernel: its odd width in pixels; 0 takes a tenth of `size`,
    as SimCLR does. threshold: solarising inverts what is at least as bright.

    Chen et al. 2020 (arXiv 2002.05709, appendix A); solarise: Grill et al. 2020 (arXiv 2006.07733, appendix B).
    """

    def __init__(
        self,
        size: int,
        scale: Range = (0.08, 1.0),
        ratio: Range = (3 / 4, 4 / 3),
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
        flip: float = 0.5,
        jitter: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        grayscale: float = 0.0,
        blur: float = 0.0,
        sigma: Range = (0.1, 2.0),
        kernel: int = 0,
        solarise: float = 0.0,
        threshold: float = 0.5,
        pad: int = 0,
    ):
        self.size, self.scale, self.ratio, self.interpolation = size, tuple(scale), tuple(ratio), interpolation
        self.pad = pad
        self.flip, self.jitter, self.grayscale, self.blur, self.solarise = flip, jitter, grayscale, blur, solarise
        self.strengths = [brightness, contrast, saturation, hue]
        self.sigma, self.kernel, self.threshold = tuple(sigma), kernel or 2 * (size // 20) + 1, threshold
        check(self)

    def draw(self, draws: Draws, height: int, width: int) -> Drawn:
        """Parameters for one view of each row of a batch of images of this height and width."""
        height, width = height + 2 * self.pad, width + 2 * self.pad
        boxes, flipped = draw_geometry(draws, height, width, self.scale, self.ratio, self.flip)
        jittered = chance(draws, self.jitter)
        factors, order = (None, None) if jittered is None else draw_jitter(draws, self.strengths)
        grey = chance(draws, self.grayscale)
        blurred = chance(draws, self.blur)
        low, high = self.sigma
        sigma = None if blurred is None else low + (high - low) * draws.uniform()
        return Drawn(boxes, flipped, factors, order, jittered, grey, blurred, sigma, chance(draws, self.solarise))

    def apply(self, images: UInt8[Tensor, "n c h w"], drawn: Drawn) -> Float[Tensor, "n c s s"]:
        """The views that these parameters make: only the rows that drew an operation pay for it."""
        bordered = F.pad(to_float(images), [self.pad] * 4) if self.pad else to_float(images)
        views = crop_resize(bordered, Geometry(drawn.boxes, drawn.flipped), self.size, self.interpolation)
        if drawn.factors is not None and drawn.order is not None:
            jitter_(views, rows_of(drawn.jittered), drawn.factors, drawn.order)
        change_(views, rows_of(drawn.grey), lambda chosen, _: grayscale(chosen))
        if drawn.sigma is not None:
            sigma = drawn.sigma
            change_(views, rows_of(drawn.blurred), lambda chosen, rows: gaussian_blur(chosen, sigma[rows], self.kernel))
        change_(views, rows_of(drawn.solarised), lambda chosen, _: solarise(chosen, self.threshold))
        return views

    @property
    def needs_colour(self) -> bool:
        """Whether only images of three channels will do."""
        return self.jitter > 0 or self.grayscale > 0


def chance(draws: Draws, probability: float) -> Bool[Tensor, " n"] | None:
    """Which rows are chosen; None, and no draw, where none ever is."""
    return draws.uniform() < probability if probability > 0 else None


def rows_of(chosen: Bool[Tensor, " n"] | None) -> Int[Tensor, " m"]:
    """The numbers of the chosen rows; none for None."""
    return torch.empty(0, dtype=torch.long) if chosen is None else torch.nonzero(chosen).squeeze(1)


def change_(views: Tensor, rows: Int[Tensor, " m"], change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Put change(those views, rows) in the place of the views of these rows."""
    if len(rows):
        here = rows.to(views.device)
        views.index_copy_(0, here, change(views.index_select(0, here), rows))


def check(policy: Policy) -> None:
    """Refuse what makes no sense, naming the argument to set."""
    if policy.size < 1:
        raise ValueError(f"policy: size is {policy.size}; allowed: >= 1; set size to the side of the view in pixels")
    if policy.pad < 0:
        raise ValueError(f"policy: pad is {policy.pad}; allowed: >= 0; set pad to the width of the border in pixels")
    for name in ("flip", "jitter", "grayscale", "blur", "solarise"):
        if not 0 <= getattr(policy, name) <= 1:
            raise ValueError(f"policy: {name} is {getattr(policy, name)}; allowed: 0 to 1; set {name} to a probability")
    for name, most in (("scale", 1.0), ("ratio", float("inf")), ("sigma", float("inf"))):
        bounds = getattr(policy, name)
        if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] <= most:
            raise ValueError(
                f"policy: {name} is {list(bounds)}; allowed: two numbers, 0 < low <= high <= {most}; set {name}"
            )
    if policy.interpolation not in ("bilinear", "bicubic"):
        raise ValueError(
            f"policy: interpolation is {policy.interpolation!r}; allowed: bilinear, bicubic; set interpolation"
        )
    *blends, hue = policy.strengths
    if min(policy.strengths) < 0 or hue > 0.5:
        raise ValueError(
            f"policy: brightness, contrast, saturation are {blends}, hue is {hue}; allowed: >= 0, hue <= 0.5; set them"
        )
    if policy.blur and (policy.kernel % 2 == 0 or policy.kernel < 1 or policy.kernel // 2 >= policy.size):
        raise ValueError(
            f"policy: kernel is {policy.kernel} for views of {policy.size} pixels; allowed: odd, from 1 to "
            f"{2 * policy.size - 1}; set kernel, or 0 for a tenth of the size"
        )
