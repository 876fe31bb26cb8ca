"""The only part in which stages meet: a network in, figures and pages out."""

from .article import article as article
from .cases import gradient_cases as gradient_cases
from .explaining import explain as explain
from .figuring import figure as figure
from .figuring import figure_kinds as figure_kinds
from .jobs import Event as Event
from .jobs import build as build
from .jobs import estimate_build as estimate_build
from .pages import file_stem as file_stem
from .pages import overview as overview
from .pages import overview_layers as overview_layers
