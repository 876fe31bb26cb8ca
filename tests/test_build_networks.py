"""Atlases of networks of many kinds: without images, with groups, shared modules, dead units, or beyond capture."""

import numpy as np
import pytest
import torch
from atlases import QUICK, recipe_name
from torch import nn

import weightatlas as wa
from weightatlas.store import layout
from weightatlas.store.pictures import decoded

pytestmark = pytest.mark.usefixtures("one_thread")
OWN = recipe_name(QUICK)


def opened(module, shape):
    return wa.load(module.eval(), input=wa.InputSpec(shape=shape))


def make(kind, *parts):
    torch.manual_seed(0)
    return kind(*parts) if parts else kind()


class Undecided(nn.Module):
    """What cannot be captured; a norm and activations lie between its convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.second, self.soft = nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.GELU()
        self.third, self.pool = nn.Conv2d(6, 2, 1), nn.AvgPool2d(2)
        self.fourth = nn.Conv2d(2, 3, 1)

    def forward(self, x):
        x = self.act(self.norm(self.first(x)))
        if x.sum() > 1e9:
            x = x * 2
        return self.fourth(self.pool(self.third(self.soft(self.second(x)))))


@pytest.mark.slow
class TestWithoutPictures:
    @pytest.mark.parametrize("kind", ["vectors", "sounds"])
    def test_networks_that_take_no_images_have_weights_but_no_pictures(self, kind, tmp_path):
        torch.manual_seed(0)
        if kind == "vectors":
            module, shape = (
                nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)),
                (12,),
            )
        else:
            head = (nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(5, 3))
            module, shape = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 5, 3), *head), (2, 20)
        net = opened(module, shape)
        inputs = torch.randn(4, *shape)
        atlas = wa.build(net, tmp_path, images=inputs)
        assert atlas.manifest["failures"] == []
        assert atlas.coverage["pictures"] == {}
        assert atlas.manifest["notes"] == ["Sequential takes no images, so there are no pictures of units"]
        wa.measure(net, inputs)
        for pair in atlas.manifest["pairs"]:
            ends = pair["source"], pair["target"]
            truth = wa.expanded_weights(net, *ends, skip="exclude").values
            assert np.array_equal(atlas.weights(*ends).values, truth)
            assert atlas.agreement(*ends) is not None
        values = net.module[0](inputs).detach().numpy()
        values = values if values.ndim == 2 else values.transpose(0, 2, 1).reshape(-1, 4)
        about = atlas.document(layout.layer_path("0", "activations"))
        assert about["mean"] == pytest.approx(values.mean(0), rel=1e-3, abs=1e-6)
        assert about["most"] == pytest.approx(values.max(0), rel=1e-3)


@pytest.mark.slow
class TestGroups:
    @pytest.fixture(scope="class")
    @classmethod
    def atlas(cls, tmp_path_factory):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1)
        )
        cls.net = opened(module, (4, 12, 12))
        recipes = [QUICK, f"{OWN}.positions", f"{OWN}.factors"]
        return wa.build(cls.net, tmp_path_factory.mktemp("groups"), recipes=recipes, units=[0, 3])

    def test_weights_are_kept_as_compact_as_they_are(self, atlas):
        for pair, shape in [(("input", "0"), [8, 2, 3, 3]), (("0", "2"), [8, 1, 3, 3]), (("0", "3"), [4, 8, 3, 3])]:
            assert atlas.pair(*pair)["shape"] == shape
            truth = wa.expanded_weights(self.net, *pair, skip="exclude").dense().values
            assert np.array_equal(atlas.weights(*pair).dense().values, truth)

    def test_inputs_and_outputs_are_numbered_in_the_whole_layer(self, atlas):
        about = atlas.document(layout.connections_path("0", "input", "top"))
        for unit in range(8):
            assert set(about["inputs"]["units"][unit]) == ({0, 1} if unit < 4 else {2, 3})
        for unit in range(4):
            assert set(about["outputs"]["units"][unit]) == (set(range(4)) if unit < 2 else set(range(4, 8)))

    def test_one_source_for_each_unit_leaves_nothing_to_factorize(self, atlas):
        assert {(p["source"], p["target"]) for p in atlas.manifest["pairs"] if p["factors"]} == {("2", "3")}
        assert atlas.manifest["failures"] == []
        assert f"{OWN}.positions@0" in atlas.layer("2")["pictures"]
        assert f"{OWN}.factors@0" not in atlas.layer("2")["pictures"]


class TestBeyondCapture:
    @pytest.fixture(scope="class")
    @classmethod
    def atlas(cls, tmp_path_factory):
        torch.manual_seed(0)
        module = Undecided().eval()
        nn.init.normal_(module.norm.weight)
        nn.init.uniform_(module.norm.running_var, 0.5, 2)
        cls.net = wa.load(module, input=wa.InputSpec(shape=(3, 12, 12)))
        images = torch.randn(3, 3, 12, 12)
        recipes = [QUICK, f"{OWN}.positions"]
        return wa.build(cls.net, tmp_path_factory.mktemp("undecided"), recipes=recipes, units=[0, 1], images=images)

    def test_what_can_be_told_is_made_and_nothing_is_called_a_failure_but_what_mixes(self, atlas):
        failures = {f["job"]: f["error"] for f in atlas.manifest["failures"]}
        assert set(failures) == {"weights fourth ← third"}  # pooling lies between
        assert "one unit from one" in failures["weights fourth ← third"]
        assert any("cannot be captured" in note for note in atlas.manifest["notes"])
        assert atlas.manifest["gates"] == {"rule": "expected", "measured": False}
        assert [(p["source"], p["target"]) for p in atlas.manifest["pairs"]] == [
            ("input", "first"), ("first", "second"), ("second", "third")
        ]  # fmt: skip
        assert all(p["agreement"] == "not measured" for p in atlas.manifest["pairs"])
        assert atlas.coverage["pictures"] == {"examples": [8, 8], OWN: [8, 8], f"{OWN}.positions": [4, 4]}
        assert atlas.document("graph.json")["nodes"] == []

    def test_direct_weights_are_those_of_the_modules_with_norms_taken_in(self, atlas):
        module = self.net.module
        first = atlas.weights("input", "first")
        scale = module.norm.weight / torch.sqrt(module.norm.running_var + module.norm.eps)
        expected = module.first.weight * scale[:, None, None, None]  # its own norm is folded in
        assert first.values == pytest.approx(expected.detach().numpy(), rel=1e-5, abs=1e-7)
        assert first.sees_pixels
        second = atlas.weights("first", "second")
        expected = module.second.weight.detach().numpy()
        scaled = expected * scale.detach().numpy().reshape(2, 1, 2).repeat(3, 1).reshape(6, 2)[..., None, None]
        for found in (second,):
            assert found.source == "first"
            assert [(r.operator, r.module, r.became) for r in found.replaced] == [("ReLU", "act", "identity")]
            assert found.values == pytest.approx(scaled, rel=1e-5, abs=1e-7)
        third = atlas.weights("second", "third")
        assert np.array_equal(third.values, module.third.weight.detach().numpy())
        assert [r.module for r in third.replaced] == ["soft"]

    def test_the_first_order_change_is_what_the_weights_say(self, atlas):
        """With every activation let through, autograd from one convolution to the next agrees."""
        module = self.net.module
        weights = atlas.weights("first", "second").dense()
        x = torch.randn(1, 4, 9, 9, requires_grad=True)
        (grad,) = torch.autograd.grad(module.second(module.norm(x))[0, 3, 4, 4], x)
        assert grad[0, :, 3:6, 3:6].numpy() == pytest.approx(weights.values[3], rel=1e-4, abs=1e-6)


@pytest.mark.slow
class TestDead:
    @pytest.fixture(scope="class")
    @classmethod
    def atlas(cls, tmp_path_factory):
        """One unit has no weights at all, and to one layer nothing leads."""
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 4, 3)).eval()
        with torch.no_grad():
            module[1].weight[2] = 0
            module[2].weight[:] = 0
        net = wa.load(module, input=wa.InputSpec(shape=(3, 14, 14)))
        recipes = [f"{OWN}.{v}" for v in ("positions", "factors")]
        images = torch.randn(3, 3, 14, 14)
        return wa.build(
            net, tmp_path_factory.mktemp("dead"), recipes=[QUICK, *recipes], units=[1, 2], batch=2, images=images
        )

    def test_what_has_no_weights_is_no_failure(self, atlas):
        assert atlas.manifest["failures"] == []
        assert atlas.coverage["pictures"][f"{OWN}.positions"] == [4, 4]
        assert wa.check_atlas(atlas.where).whole

    def test_its_pictures_are_white_and_say_why(self, atlas):
        cases = [("1", 2, "0", "positions"), ("1", 2, "0", "factors"), ("2", 1, "1", "positions")]
        for layer, unit, source, variant in cases:
            path = layout.picture_path(layer, f"{OWN}.{variant}@{source}", unit)
            pixels, about = decoded(atlas.files.read(path), path)
            assert (pixels == 255).all()
            assert about["notes"] == [f"{layer}:{unit} has no weights over {source}"]
            assert about["reached"] == about["seed"] == []
            assert atlas.pictures(layer, f"{OWN}.{variant}@{source}", [unit]).alive.tolist() == [False]
        path = layout.picture_path("1", f"{OWN}.positions@0", 1)
        assert len(decoded(atlas.files.read(path), path)[1]["reached"]) > 0

    def test_numbers_of_what_is_zero(self, atlas):
        about = atlas.document(layout.connections_path("2", "1", "top"))
        assert about["largest"] == 0
        assert about["strongest"] == []
        assert about["inputs"]["units"] == [[]] * 4
        assert atlas.document(layout.connections_path("2", "1", "agreement"))["cosine"] == [None] * 4
        assert atlas.document(layout.layer_path("2", "units"))["norms"] == [0] * 4
        assert atlas.document(layout.layer_path("2", "units"))["families"] == []
        assert atlas.document(layout.layer_path("1", "units"))["norms"][2] == 0


@pytest.mark.slow
def test_blocks_branches_and_upsampling(tmp_path):
    """Networks from the tests of layers: what is kept is what expanded weights are."""
    from test_build_levels import Inception, Shared, UNet

    for kind in (Inception, UNet, Shared):
        net = opened(make(kind), (3, 16, 16))
        atlas = wa.build(net, tmp_path / kind.__name__, recipes=[], only=["weights", "factors", "units"])
        assert atlas.manifest["failures"] == []
        assert wa.check_atlas(atlas.where).whole
        for pair in atlas.manifest["pairs"]:
            ends = pair["source"], pair["target"]
            truth = wa.expanded_weights(net, *ends, skip="exclude")
            assert np.array_equal(atlas.weights(*ends).values, truth.values)
            assert np.array_equal(atlas.weights(*ends).skip_values, truth.skip_values)


@pytest.mark.slow
def test_a_network_of_another_library(tmp_path):
    import transformers as hub

    torch.manual_seed(0)
    config = hub.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    net = opened(hub.ResNetModel(config), (3, 32, 32))
    atlas = wa.build(net, tmp_path, recipes=[QUICK], units=[0], images=torch.randn(2, 3, 32, 32))
    assert atlas.manifest["failures"] == []
    assert atlas.coverage["pictures"][OWN] == [3, 3]
    assert atlas.coverage["agreement"] == atlas.coverage["weights"] == [5, 5]
