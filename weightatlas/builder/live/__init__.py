"""The builder as a child of the explorer's server: it fills an atlas, and makes at once what readers ask for."""

from .session import Session as Session
