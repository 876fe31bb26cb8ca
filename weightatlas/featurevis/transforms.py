"""Views of a canvas: small random shifts, turns, scalings and noise, so that no picture hangs on one exact pixel.

Every picture has its own numbers from its own generator, so its views do not depend on which others are rendered beside
it. A view is a window of the canvas; the canvas is wider by what shifts may use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Views:
    """How pictures are seen.

    Args:
        size: of the view, ``(h, w)`` in pixels.
        jitter: pixels by which the window may move, in all.
        rotate: degrees to either side.
        scale: share by which the window may grow or shrink.
        noise: deviation of noise added to values of 0 … 1.
        pad: pixels of grey around the canvas.
        wrapped: the canvas has no edges: it goes on at its other side, and views may be larger than it is.
    """

    size: tuple[int, int]
    jitter: int = 8
    rotate: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    pad: int = 0
    wrapped: bool = False

    def draw(self, generators: list[torch.Generator], steps: int) -> Tensor:
        """The numbers of all steps, uniform in −1 … 1: ``[steps, N, 4]`` as shift y, shift x, turn, log scale."""
        drawn = [torch.rand((steps, 4), generator=g, dtype=torch.float32) for g in generators]
        return torch.stack(drawn, 1) * 2 - 1

    def __call__(self, canvas: Tensor, numbers: Tensor, generators: list[torch.Generator] | None = None) -> Tensor:
        """The views ``[N, C, h, w]`` of canvases ``[N, C, S, T]``.

        Args:
            canvas: as large as the view and the jitter together.
            numbers: one step's, ``[N, 4]``.
            generators: one a picture, for noise.
        """
        canvas = self._extended(canvas)
        turned = self.rotate or self.scale
        seen = self._turned(canvas, numbers) if turned else self._shifted(canvas, numbers)
        if self.noise and generators is not None:
            grain = torch.stack([torch.randn(seen.shape[1:], generator=g, dtype=torch.float32) for g in generators])
            seen = seen + self.noise * grain.to(seen.device)
        return seen

    def centre(self, canvas: Tensor) -> Tensor:
        """The window in the middle, unturned: what is shown and judged."""
        canvas = self._extended(canvas)
        h, w = self.size
        y, x = (canvas.shape[-2] - h) // 2, (canvas.shape[-1] - w) // 2
        return canvas[..., y : y + h, x : x + w]

    def _extended(self, canvas: Tensor) -> Tensor:
        """The canvas with grey around it, or wrapped until views and their shifts find room."""
        if self.pad:
            canvas = functional.pad(canvas, (self.pad,) * 4, value=0.5)
        if self.wrapped:
            for axis, size in ((-2, self.size[0]), (-1, self.size[1])):
                once = canvas.shape[axis]
                whole, rest = divmod(size + self.jitter, once)
                parts = [canvas] * whole + ([canvas.narrow(axis, 0, rest)] if rest else [])
                canvas = torch.cat(parts, axis) if len(parts) > 1 else parts[0]
        return canvas

    def _shifted(self, canvas: Tensor, numbers: Tensor) -> Tensor:
        h, w = self.size
        room = torch.tensor([canvas.shape[-2] - h, canvas.shape[-1] - w])
        places = ((numbers[:, :2] + 1) / 2 * (room + 1)).long().clamp(max=room).tolist()
        return torch.stack([canvas[i, :, y : y + h, x : x + w] for i, (y, x) in enumerate(places)])

    def _turned(self, canvas: Tensor, numbers: Tensor) -> Tensor:
        h, w = self.size
        rows, columns = canvas.shape[-2:]
        angle = numbers[:, 2] * math.radians(self.rotate)
        zoom = torch.exp(numbers[:, 3] * math.log1p(self.scale))
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        # a view's own coordinates −1 … 1 to the canvas's, by way of pixels
        top = [cos * (w / columns), -sin * (h / columns), numbers[:, 1] * ((columns - w) / columns)]
        low = [sin * (w / rows), cos * (h / rows), numbers[:, 0] * ((rows - h) / rows)]
        turn = torch.stack([torch.stack(top, 1), torch.stack(low, 1)], 1).to(canvas.device)
        grid = functional.affine_grid(turn, [*canvas.shape[:2], h, w], align_corners=False)
        return functional.grid_sample(canvas, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
