"""Vision models of transformers, from the Hugging Face hub, its cache, or a folder."""

from .opening import open_network as open_network
