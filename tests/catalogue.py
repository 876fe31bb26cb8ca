"""Small networks whose receptive fields are hard to tell, each for one reason."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from weightatlas.models.efficientnet_lite import Conv2dSame

S = nn.Sequential


class Fn(nn.Module):
    """A function of the input around some children, which hypothesis and parametrize can name."""

    def __init__(self, function, **children: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x):
        return self.function(self, x)


def conv(i=2, o=2, k=3, **options) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, **options)


#: Every position sees exactly the interval that is said.
EXACT = {
    "stride, padding": S(conv(stride=2, padding=1), nn.ReLU(), conv(k=5, padding=2), conv(stride=3)),
    "non-square": S(conv(k=(1, 7), padding=(0, 3)), conv(k=(5, 2), stride=(2, 1))),
    "dilation": S(conv(dilation=2, padding=2), conv(dilation=(3, 1))),
    "same": S(conv(k=5, padding="same"), conv(k=3, dilation=2, padding="same")),
    "same, even": S(conv(k=(3, 4), padding="same"), conv(k=(2, 3), padding="same")),
    "TF same": S(Conv2dSame(2, 2, 3, stride=2), Conv2dSame(2, 2, 5, stride=2), Conv2dSame(2, 2, 2)),
    "groups": S(conv(2, 4), conv(4, 4, groups=4, padding=1), nn.BatchNorm2d(4), conv(4, 4, groups=2)),
    "average pool": S(conv(padding=1), nn.AvgPool2d(3, 2, padding=1), conv(), nn.AvgPool2d(2, ceil_mode=True)),
    "max pool": S(conv(padding=1), nn.MaxPool2d(3, 2, padding=1), nn.MaxPool2d(2, 1, dilation=2), conv()),
    "ceil mode": S(nn.MaxPool2d(3, 2, ceil_mode=True), conv(), nn.MaxPool2d((1, 3), (1, 2), ceil_mode=True)),
    "lp pool": S(conv(), nn.LPPool2d(2, 2)),
    "zero pad": S(nn.ZeroPad2d((1, 2, 3, 0)), conv(), nn.ConstantPad2d(-1, 0.0), conv()),
    "reflect": S(conv(), nn.ReLU(), Fn(lambda m, x: m.a(functional.pad(x, (3, 3, 3, 3), "reflect")), a=conv(k=7))),
    "padding modes": S(conv(padding=1, padding_mode="reflect"), conv(padding=1, padding_mode="replicate", stride=2)),
    "adaptive, dividing": S(nn.AdaptiveAvgPool2d((8, 10)), conv()),
    "shuffle back": S(nn.PixelUnshuffle(2), conv(8, 8), conv(8, 3, stride=2)),
    "local response": S(conv(2, 8), nn.LocalResponseNorm(3), conv(8, 2)),
    "prelu, gelu, silu": S(conv(), nn.PReLU(2), conv(), nn.GELU(), nn.SiLU(inplace=True), conv(), nn.Dropout2d()),
    "in place": S(conv(), nn.ReLU(inplace=True), nn.BatchNorm2d(2), nn.ReLU6(inplace=True), conv()),
    "glu": S(conv(2, 4), nn.GLU(1), conv()),
    "residual": Fn(
        lambda m, x: m.c(functional.relu(m.a(x) + m.b(x))), a=conv(padding=1), b=conv(k=5, padding=2), c=conv()
    ),
    "residual in place": Fn(lambda m, x: m.c(m.b(m.a(x)).add_(x)), a=conv(padding=1), b=conv(padding=1), c=conv()),
    "concat": Fn(
        lambda m, x: m.c(torch.cat([m.a(x), x, m.b(x)], 1)),
        a=conv(padding=1),
        b=conv(k=(1, 5), padding=(0, 2)),
        c=conv(6),
    ),
    "split": Fn(lambda m, x: m.b(torch.cat([m.a(x)[:, :2], m.a(x).chunk(2, 1)[1]], 1)), a=conv(2, 4), b=conv(4)),
    "slices": Fn(lambda m, x: m.b(m.a(x)[:, :, 2:-1, 1::2]), a=conv(), b=conv()),
    "focus": Fn(lambda m, x: m.a(torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)), a=conv(8)),
    "channels last": Fn(
        lambda m, x: m.b(m.n(m.l(m.a(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)),
        a=conv(padding=1),
        l=nn.Linear(2, 3),
        n=nn.LayerNorm(3),
        b=conv(3),
    ),
    "transposed axes": Fn(lambda m, x: m.a(x.transpose(2, 3)), a=conv(k=(3, 5))),
    "channel shuffle": Fn(
        lambda m, x: m.b(m.a(x).view(x.shape[0], 2, 2, *m.a(x).shape[2:]).transpose(1, 2).flatten(1, 2)),
        a=conv(2, 4),
        b=conv(4),
    ),
    "twice": Fn(lambda m, x: m.r(m.a(m.r(m.a(x)))), a=conv(padding=1), r=nn.ReLU()),
    "stacked": Fn(lambda m, x: m.b(torch.stack([m.a(x), x[:, :, 1:-1, 1:-1]]).amax(0)), a=conv(), b=conv()),
}

#: Positions differ; together they fill the interval.
HULLS = {
    "transposed": S(conv(stride=2), nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1), conv()),
    "transposed, wide": S(
        nn.ConvTranspose2d(2, 2, (3, 5), stride=(1, 3), dilation=2, padding=(0, 2), output_padding=(0, 1))
    ),
    "nearest": S(conv(), nn.Upsample(scale_factor=2), conv()),
    "nearest, odd": S(nn.Upsample(size=(31, 17)), conv()),
    "nearest, scale": S(nn.Upsample(scale_factor=(1.5, 0.7)), conv()),
    "nearest-exact": S(nn.Upsample(size=(9, 31), mode="nearest-exact")),
    "bilinear": S(nn.Upsample(scale_factor=2, mode="bilinear"), conv()),
    "bilinear, scale": S(nn.Upsample(scale_factor=1.3, mode="bilinear"), conv()),
    "bilinear, corners": S(nn.Upsample(size=(40, 33), mode="bilinear", align_corners=True)),
    "bilinear, smaller": S(nn.Upsample(size=(7, 11), mode="bilinear")),
    "adaptive": S(nn.AdaptiveAvgPool2d((7, 3))),
    "adaptive max": S(nn.AdaptiveMaxPool2d((5, 9))),
    "pixel shuffle": S(conv(2, 8, padding=1), nn.PixelShuffle(2), conv()),
}


def _written(x):
    out = torch.zeros(x.shape, dtype=x.dtype)
    out[:, :, 3:] = x[:, :, :-3]
    return out + x


def _older_view(a, x):
    view = a.detach() if not x.requires_grad else a[:]
    a += x.roll(5, 2)
    return view


def _shifted(x):
    out = torch.zeros_like(x)
    out[:, :1, 1:] = x[:, :1, :-1]
    out[:, 1:] = x[:, 1:]
    return out


#: Positions move, or meet others.
UNKNOWN = {
    "flip": Fn(lambda m, x: m.a(x.flip(2)), a=conv()),
    "roll": Fn(lambda m, x: m.a(m.b(x).roll(1, 3)), b=conv(), a=conv()),
    "circular": S(conv(padding=1, padding_mode="circular"), conv()),
    "circular, added": Fn(lambda m, x: m.b(m.a(x) + x), a=conv(padding=1, padding_mode="circular"), b=conv()),
    "reflect, deep": S(nn.ReflectionPad2d(6), conv(), conv()),
    "replicate, deep": S(nn.ReplicationPad2d(6), conv(), conv()),
    "strides meet": Fn(lambda m, x: m.a(x[:, :, ::2] + x[:, :, :12]), a=conv()),
    "rows joined": Fn(lambda m, x: m.a(torch.cat([x, x], 2)), a=conv()),
    "rows chosen": Fn(lambda m, x: m.a(x[:, :, [3, 1, 2, 0]]), a=conv(k=1)),
    "transposed, added": Fn(lambda m, x: m.a(x[:, :, :20] + x[:, :, :20].transpose(2, 3)), a=conv()),
    "one row spread": Fn(lambda m, x: m.a(x + x[:, :, :1]), a=conv()),
    "one row expanded": Fn(lambda m, x: m.a(x[:, :, 3:4].expand(-1, -1, 24, -1)), a=conv()),
    "scale from a narrow view": Fn(
        lambda m, x: m.b(x * m.l(m.a(x).flatten(1))[:, :, None, None]), a=conv(k=(24, 20)), l=nn.Linear(2, 2), b=conv()
    ),
    "kernel from the image": Fn(
        lambda m, x: m.b(functional.conv2d(x, x.mean((0, 2, 3)).view(1, 2, 1, 1).expand(2, 2, 3, 3))), b=conv()
    ),
    "written through a view": Fn(lambda m, x: m.b(_written(x)), b=conv()),
    "an older view": Fn(lambda m, x: m.b(_older_view(m.a(x), x)), a=conv(padding=1), b=conv(k=1)),
    "second of two results": Fn(
        lambda m, x: m.a(torch.var_mean(x, 1, keepdim=True)[1].expand(-1, 2, -1, -1)), a=conv()
    ),
    "shifted": Fn(lambda m, x: m.a(_shifted(x)), a=conv()),
    "bicubic": S(nn.Upsample(scale_factor=2, mode="bicubic"), conv()),
    "row attention": Fn(lambda m, x: m.a(torch.softmax(x @ x.transpose(2, 3), -1) @ x), a=conv()),
    "columns mixed": Fn(lambda m, x: m.a(m.l(x)), l=nn.Linear(20, 20), a=conv()),
    "unfolded": Fn(lambda m, x: m.a(functional.unfold(x, 3).view(x.shape[0], 18, 22, 18)), a=conv(18)),
}

#: Every position sees the whole input.
WHOLE = {
    "squeeze and excitation": Fn(
        lambda m, x: m.b(m.a(x) * torch.sigmoid(m.e(m.s(functional.adaptive_avg_pool2d(m.a(x), 1))))),
        a=conv(padding=1),
        s=conv(k=1),
        e=conv(k=1),
        b=conv(),
    ),
    "group norm": S(conv(2, 4), nn.GroupNorm(2, 4), conv(4)),
    "instance norm": S(conv(2, 4), nn.InstanceNorm2d(4), conv(4)),
    "layer norm over all": S(conv(), nn.LayerNorm((2, 22, 18)), conv()),
    "batch norm without statistics": S(conv(), nn.BatchNorm2d(2, track_running_stats=False), conv()),
    "softmax over positions": Fn(lambda m, x: m.b(m.a(x).softmax(3).softmax(2)), a=conv(), b=conv()),
    "flatten, linear": S(conv(), nn.Flatten(), nn.Linear(792, 3)),
    "flattened branches": Fn(
        lambda m, x: m.l(torch.cat([m.a(x).flatten(1), x.flatten(1)], 1)), a=conv(), l=nn.Linear(792 + 960, 3)
    ),
    "global pool": S(conv(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(2, 3)),
    "mean": Fn(lambda m, x: m.l(m.a(x).mean((2, 3))), a=conv(), l=nn.Linear(2, 3)),
}
