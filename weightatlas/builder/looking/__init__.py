"""What the network does on readers' images: a child of the explorer's server, apart from the builder of the atlas."""

from .session import Session as Session
