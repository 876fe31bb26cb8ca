"""Canvases: what is optimised, and the picture that it stands for.

Symbols: N pictures, C channels, S × T pixels, z the parameters, x = picture(z) in 0 … 1.

A Fourier canvas holds a spectrum ``z [N, C, S, T/2 + 1]`` (complex), and the picture is::

    x = sigmoid(contrast · D · irfft2(z / f^exponent))

with f the frequency in cycles a picture and D the colours' decorrelation. It is scaled so that spectra of unit power
give pixels of unit deviation; f^−exponent is how the spectra of photographs fall, so all frequencies learn alike.

The default canvas also caps bands: after every step each ring of frequencies whose mean power exceeds 1 is scaled back,
so no frequency can outgrow its share in photographs. It is the soft form of a fixed magnitude (MACO).

Sources: Olah, Mordvintsev & Schubert, "Feature Visualization", Distill 2017 (Fourier, decorrelation); Fel et al.,
"MACO", NeurIPS 2023 (fixed magnitude); van der Schaaf & van Hateren 1996 (spectra of photographs).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["bands", "fourier", "pixels", "maco"]

#: How the colours of photographs vary together, columns from the strongest: light, blue-yellow, green-magenta. From
#: the covariance of ImageNet's pixels (the Distill article's code); scaled so that the first column has length 1.
IMAGENET_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))

#: How far the mean of a picture may go, as a multiple of its longest waves.
SCENE = 3.0


@dataclass(frozen=True)
class Frame:
    """The facts of a canvas.

    Args:
        kind: ``"bands"`` (Fourier with capped bands), ``"fourier"``, ``"pixels"``, or ``"maco"`` (only phases).
        channels: C.
        size: (S, T) in pixels.
        contrast: how far pixels of unit deviation go before they saturate.
        exponent: with which spectra fall.
        chroma: power that the colour channels may have beside light's 1.
        colours: 3 × 3, columns the directions in which colours vary; ``None`` leaves channels as they are.
        deviation: of the start.
        alpha: whether one more channel says how opaque a place is.
    """

    kind: Kind
    channels: int
    size: tuple[int, int]
    contrast: float = 2.0
    exponent: float = 1.2
    chroma: float = 0.4
    colours: tuple[tuple[float, ...], ...] | None = None
    deviation: float = 0.1
    alpha: bool = False


class Canvas:
    """Turns parameters into pictures, and keeps them within bounds.

    Args:
        frame: its facts.
        device: where its tables are.
    """

    def __init__(self, frame: Frame, device: torch.device) -> None:
        self.frame = frame
        self.planes = frame.channels + frame.alpha
        rows, columns = frame.size
        y, x = (
            torch.fft.fftfreq(rows, dtype=torch.float32)[:, None],
            torch.fft.rfftfreq(columns, dtype=torch.float32)[None],
        )
        longest = max(frame.size)
        f = torch.sqrt(y**2 + x**2) * longest  # cycles along the longer side
        fall = 1 / f.clamp(min=1) ** frame.exponent
        fall[0, 0] = SCENE  # what waves longer than the picture add up to
        twice = torch.full_like(f, 2.0)  # coefficients that stand for two of the whole spectrum
        twice[:, 0] = 1
        if columns % 2 == 0:
            twice[:, -1] = 1
        waves = ((fall**2 * twice).sum() - fall[0, 0] ** 2) / (rows * columns)
        fall = fall / torch.sqrt(waves if rows * columns > 1 else fall[0, 0] ** 2)
        self._fall = fall.to(device)
        ring = f.round().long().clamp(max=longest // 2)
        bands = int(ring.max()) + 1
        self._ring = ring.to(device)
        member = torch.nn.functional.one_hot(ring.reshape(-1), bands).float()
        self._mean = (member / member.sum(0).clamp(min=1)).to(device)
        cap = torch.ones(self.planes, dtype=torch.float32)
        if frame.colours is not None:
            cap[1 : frame.channels] = frame.chroma
        self._cap = cap[None, :, None].to(device)
        self._mix = None
        if frame.colours is not None:
            mix = torch.tensor(frame.colours, dtype=torch.float32)
            self._mix = (mix / mix.norm(dim=0).max()).to(device)

    def start(self, generators: list[torch.Generator]) -> Tensor:
        """Parameters of noise, one picture a generator: ``[N, …]``, ready for gradients."""
        (s, t), kind = self.frame.size, self.frame.kind
        if kind == "pixels":
            shape: tuple[int, ...] = (self.planes, s, t)
        else:
            shape = (self.planes, s, t // 2 + 1) if kind == "maco" else (self.planes, s, t // 2 + 1, 2)
        drawn = [torch.randn(shape, generator=g, dtype=torch.float32) for g in generators]
        noise = torch.stack(drawn).to(self._fall.device)
        if kind == "pixels":
            return (noise * self.frame.deviation).requires_grad_()
        if kind == "maco":
            return self._mirrored(torch.polar(torch.ones_like(noise), noise * math.pi)).angle().requires_grad_()
        z = torch.view_as_complex(noise * math.sqrt(0.5)).contiguous()
        return (self._mirrored(z) * self.frame.deviation).requires_grad_()

    def _mirrored(self, z: Tensor) -> Tensor:
        """The spectrum with z[−k] the conjugate of z[k] where both are held, as a picture's is; steps keep it so.

        Else the two would average, and waves straight down begin with half the power of others.
        """
        for column in [0] if self.frame.size[1] % 2 else [0, -1]:
            line = z[..., column]
            across = line.flip(-1).roll(1, -1).conj()
            z[..., column] = (line + across) * math.sqrt(0.5)
        return z

    def planes_of(self, z: Tensor) -> Tensor:
        """What the parameters say before colours and squashing: ``[N, C (+ 1), S, T]``."""
        kind = self.frame.kind
        if kind == "pixels":
            return z
        spectrum = torch.polar(torch.ones_like(z), z) if kind == "maco" else z
        return torch.fft.irfft2(spectrum * self._fall, s=self.frame.size, norm="ortho")

    def picture(self, z: Tensor) -> Tensor:
        """Pictures in 0 … 1, ``[N, C (+ 1 for alpha), S, T]``."""
        flat = self.planes_of(z)
        if self._mix is not None:
            c = self.frame.channels
            mixed = torch.einsum("ij,njhw->nihw", self._mix, flat[:, :c])
            flat = torch.cat([mixed, flat[:, c:]], 1) if self.frame.alpha else mixed
        return torch.sigmoid(flat * self.frame.contrast)

    @torch.no_grad()
    def keep_within(self, z: Tensor) -> None:
        """Scales back rings of frequencies with more power than their share; in place."""
        if self.frame.kind != "bands":
            return
        power = (z.real**2 + z.imag**2).flatten(2)
        excess = self._cap / (power @ self._mean + 1e-12)
        z.mul_(excess.clamp(max=1).sqrt()[:, :, self._ring])
