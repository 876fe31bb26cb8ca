"""InceptionV1, the network of "Visualizing Weights", by the article's own names."""

from __future__ import annotations

from pathlib import Path

from ...errors import LoadError
from ..checkpoint import read_checkpoint
from ..spec import InputSpec, ModelSpec
from .network import InceptionV1


def find_weights() -> Path:
    """The file of published weights."""
    raise LoadError("not yet")


SPEC = ModelSpec(
    name="inceptionv1",
    input=InputSpec(shape=(3, 224, 224), value_range=(0.0, 255.0), mean=117.0, std=1.0, resize="crop"),
    build=InceptionV1,
    find_weights=find_weights,
    find_here=lambda: None,
    read=read_checkpoint,
    rename=lambda state: state,
    license="Apache-2.0",
    source="inception5h.zip of the TensorFlow release (ImageNet)",
    size=50_000_000,
)
