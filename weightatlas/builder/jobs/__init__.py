"""The atlas of a network, built by jobs."""

from .building import build as build
from .estimating import Estimate as Estimate
from .estimating import estimate_build as estimate_build
from .job import Event as Event
