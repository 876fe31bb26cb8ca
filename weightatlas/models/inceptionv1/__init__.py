"""InceptionV1, the network of "Visualizing Weights", by the article's own names."""

from __future__ import annotations

from ..downloads.downloading import Address
from ..downloads.published import Published
from ..fitting import fits
from ..spec import InputSpec, ModelSpec
from .article import FIGURES
from .network import BLOCKS, STEM, InceptionV1
from .weights import CLASSIFIER, read

#: Where the weights are published, and what their file may be called in the cache.
WEIGHTS = Published(
    name="inceptionv1",
    addresses=(
        Address(
            "https://storage.googleapis.com/download.tensorflow.org/models/inception5h.zip",
            file="inception5h.zip",
            size=50_000_000,
        ),
        Address(
            "https://github.com/pytorch/captum/raw/optim-wip/captum/optim/models/_image/inception5h.pth",
            file="inception5h.pth",
            size=50_000_000,
        ),
    ),
    files=("inception5h.zip", "tensorflow_inception_graph.pb", "inception5h.pth"),
    check=lambda path: fits(SPEC, path),
)

SPEC = ModelSpec(
    name="inceptionv1",
    input=InputSpec(shape=(3, 224, 224), value_range=(0.0, 255.0), mean=117.0, std=1.0, resize="crop"),
    build=InceptionV1,
    find_weights=WEIGHTS.find,
    find_here=WEIGHTS.here,
    read=read,
    license="Apache-2.0",
    source="inception5h.zip of the TensorFlow release (ImageNet)",
    size=50_000_000,
    classifier=CLASSIFIER,
    brings="the first load downloads it",
    blocks=(*STEM, *BLOCKS, "softmax2"),
    article=FIGURES,
)
