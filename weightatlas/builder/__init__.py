"""The only part in which stages meet: a network in, figures and pages out."""

from .kinds import figure as figure
from .pages import file_stem as file_stem
from .pages import overview as overview
from .pages import overview_layers as overview_layers
