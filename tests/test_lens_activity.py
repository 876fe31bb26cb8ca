"""What units do on images, against plain forward hooks and a naive loop over every number."""

import itertools

import numpy as np
import pytest
import torch
from atlases import images, small
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, UnknownNameError
from weightatlas.lens import Activity, activity
from weightatlas.lens.streaming import NO_IMAGE

pytestmark = pytest.mark.usefixtures("one_thread")


class Overwriting(nn.Module):
    """Activations that are written over what they read, a module that runs twice, and numbers without positions."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)
        self.again, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x):
        x = self.act(self.conv(x))
        x = self.again(torch.relu_(self.again(x)))
        return self.head(x.mean((2, 3)))


class Tokens(nn.Module):
    """Units along the last axis."""

    def __init__(self):
        super().__init__()
        self.patch, self.mix = nn.Conv2d(3, 5, 4, stride=4), nn.Linear(5, 6)

    def forward(self, x):
        return self.mix(self.patch(x).flatten(2).transpose(1, 2))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return wa.load(Overwriting().eval(), input=wa.InputSpec(shape=(3, 9, 7)))


def inputs(net, count, seed=0):
    return torch.randn(count, *net.input.shape, generator=torch.Generator().manual_seed(seed))


def outputs(net, name, batch):
    """A layer's output on a batch, copied the moment that it was made."""
    path, _, call = name.partition("#")
    found = []
    handle = net.module.get_submodule(path).register_forward_hook(lambda m, a, out: found.append(out.clone()))
    with torch.no_grad():
        net.module(batch)
    handle.remove()
    return found[int(call or 1) - 1]


def naive(values, k):
    """The statistics of activations [N, C, H, W], number by number."""
    n, c, h, w = values.shape
    units = []
    for unit in range(c):
        seen = [float(values[i, unit, y, x]) for i, y, x in itertools.product(range(n), range(h), range(w))]
        best = []
        for i in range(n):
            place = max(np.ndindex(h, w), key=lambda p, i=i, unit=unit: float(values[i, unit, p[0], p[1]]))
            best.append((float(values[i, unit][place]), i, place))
        best = sorted(best, key=lambda b: (-b[0], b[1]))[:k]
        units.append(
            (len(seen), sum(seen), sum(v * v for v in seen), sum(v > 0 for v in seen), min(seen), max(seen), best)
        )
    return units


def agree(found, truth, k):
    assert found.peaks.shape == (len(truth), k)
    for unit, (count, total, squares, positive, least, most, best) in enumerate(truth):
        assert found.count == count
        assert found.total[unit] == pytest.approx(total, rel=1e-9, abs=1e-9)
        assert found.squares[unit] == pytest.approx(squares, rel=1e-9)
        assert (found.positive[unit], found.least[unit], found.most[unit]) == (positive, least, most)
        assert found.mean[unit] == pytest.approx(total / count, rel=1e-9, abs=1e-9)
        assert found.deviation[unit] == pytest.approx(np.sqrt(squares / count - (total / count) ** 2), rel=1e-6)
        assert found.rate[unit] == positive / count
        assert [float(p) for p in found.peaks[unit][: len(best)]] == [b[0] for b in best]
        assert found.images[unit].tolist() == [b[1] for b in best] + [NO_IMAGE] * (k - len(best))
        assert [tuple(p) for p in found.places[unit][: len(best)].tolist()] == [b[2] for b in best]


@pytest.mark.parametrize("layer", ["conv", "act", "again", "again#2", "head"])
def test_statistics_and_strongest_images_of_each_unit(net, layer):
    batch = inputs(net, 6)
    values = outputs(net, layer, batch)
    values = values[..., None, None] if values.ndim == 2 else values
    found = activity(net, [layer], [(batch, range(6))], k=4)
    assert list(found) == [layer]
    agree(found[layer], naive(values, 4), 4)


def test_what_was_written_over_is_seen_as_it_was(net):
    found = activity(net, ["conv", "act"], [(inputs(net, 3), range(3))])
    assert (found["conv"].least < 0).all()
    assert (found["act"].least == 0).all()
    assert np.array_equal(found["conv"].positive, found["act"].positive)


def test_of_few_images_all_are_kept_and_the_rest_of_the_list_is_empty(net):
    found = activity(net, ["conv"], [(inputs(net, 2), range(2))], k=5)["conv"]
    assert (found.images[:, 2:] == NO_IMAGE).all()
    assert np.isneginf(found.peaks[:, 2:]).all()
    agree(found, naive(outputs(net, "conv", inputs(net, 2)), 5), 5)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 9), unique=True, max_size=5), batch=st.integers(1, 5))
def test_parts_add_up_to_the_whole_however_they_are_cut(net, cuts, batch):
    every = inputs(net, 10)
    whole = activity(net, ["act", "head"], [(every, range(10))], k=3)
    parts = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), 10]):
        rows = [range(s, min(s + batch, stop)) for s in range(start, stop, batch)]
        parts.append(activity(net, ["act", "head"], [(every[list(r)], r) for r in rows], k=3))
    for layer, one in whole.items():
        found = parts[0][layer]
        for part in parts[1:]:
            found = found.with_more(part[layer])
        assert found.count == one.count
        for name in ("positive", "images", "places"):
            assert np.array_equal(getattr(found, name), getattr(one, name)), name
        for name in ("total", "squares", "least", "most", "peaks"):
            assert getattr(found, name) == pytest.approx(getattr(one, name), rel=1e-6, abs=1e-6), name


def test_of_equally_strong_images_the_earlier_comes_first(net):
    same = torch.zeros(4, *net.input.shape)  # on which a convolution is its bias, exactly
    found = activity(net, ["act"], [(same[:3], [5, 6, 7]), (same[:1], [2])], k=4)["act"]
    assert (np.ptp(found.peaks, axis=1) == 0).all()
    assert found.images.tolist() == [[5, 6, 7, 2]] * 4  # in the order in which they were seen


def test_an_image_on_which_a_unit_comes_to_nothing_is_no_peak_of_it(net):
    batch = inputs(net, 4)
    batch[1], batch[2, 0, 0, 0] = torch.nan, torch.inf
    found = activity(net, ["conv"], [(batch[:2], [0, 1]), (batch[2:], [2, 3])], k=3)["conv"]
    clean = activity(net, ["conv"], [(batch[[0]], [0]), (batch[[3]], [3])], k=3)["conv"]
    assert {tuple(sorted(row)) for row in found.images.tolist()} <= {(NO_IMAGE, 0, 3), (0, 2, 3)}
    bad = (found.images == 2).any(1)  # −∞ somewhere else leaves a largest number
    assert np.array_equal(found.images[~bad], clean.images[~bad])
    assert found.peaks[~bad] == pytest.approx(clean.peaks[~bad])
    assert np.isnan(found.mean).all()


def test_units_along_any_axis():
    torch.manual_seed(0)
    net = wa.load(Tokens().eval(), input=wa.InputSpec(shape=(3, 8, 12)))
    batch = inputs(net, 3)
    found = activity(net, ["mix"], [(batch, range(3))], k=2)["mix"]
    values = outputs(net, "mix", batch)  # [N, positions, C]
    agree(found, naive(values.permute(0, 2, 1)[:, :, None], 2), 2)


def test_networks_of_double_and_half_precision(net):
    for kind, close in ((torch.float64, 1e-6), (torch.bfloat16, 0.1)):
        torch.manual_seed(0)
        other = wa.load(Overwriting().eval().to(kind), input=wa.InputSpec(shape=(3, 9, 7)))
        batch = inputs(net, 3)
        found, truth = (activity(n, ["conv"], [(batch, range(3))])["conv"] for n in (other, net))
        other_truth = outputs(other, "conv", batch.to(kind)).double()
        assert found.most == pytest.approx(other_truth.amax((0, 2, 3)).float().double().numpy())
        assert found.mean == pytest.approx(truth.mean, abs=close)


def test_the_network_is_left_as_it_was(net):
    net.module.train()
    with pytest.raises(RuntimeError):
        activity(net, ["conv"], [(torch.zeros(1, 5, 9, 7), [0])])
    assert net.module.training
    net.module.eval()
    assert not any(m._forward_hooks for m in net.module.modules())


def test_refusals(net):
    batch = inputs(net, 1)
    with pytest.raises(UnknownNameError, match="nearest: 'conv'"):
        activity(net, ["cnv"], [(batch, [0])])
    with pytest.raises(ArgumentError, match="no images"):
        activity(net, ["conv"], [])
    vague = wa.load(nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Unflatten(1, (2, 4))), input=wa.InputSpec(shape=(3, 2, 2)))  # fmt: skip
    assert vague.layers["2"].axes.count("C") != 1
    with pytest.raises(ArgumentError, match="which axis"):
        activity(vague, ["2"], [(torch.zeros(1, 3, 2, 2), [0])])


def test_blocks_on_a_stream_of_batches():
    net = small()
    pixels = net.preprocess(images(5))
    batches = ((pixels[i : i + 2], range(i, min(i + 2, 5))) for i in (0, 2, 4))  # one at a time
    found = activity(net, ["blocks.0", "down"], batches, k=3)
    assert isinstance(found["down"], Activity)
    values = torch.cat([outputs(net, "blocks.0", pixels[i : i + 2]) for i in (0, 2, 4)])
    agree(found["blocks.0"], naive(values, 3), 3)
