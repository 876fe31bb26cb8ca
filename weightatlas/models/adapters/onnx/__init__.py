"""ONNX files: their layers and weights, read without running anything."""

from .opening import open_network as open_network
