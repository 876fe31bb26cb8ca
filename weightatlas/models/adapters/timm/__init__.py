"""Networks of timm, by its own names or from folders and repositories in its form."""

from .opening import open_network as open_network
