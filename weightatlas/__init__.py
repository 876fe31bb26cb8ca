"""weightatlas: read the weights of trained neural networks.

Open a network, look at what its units are made of::

    import weightatlas as wa

    net = wa.load("efficientnet_lite0")
    w = wa.direct_weights(net, "blocks.4.1")
    f = wa.factorize(w, rank=3)
    wa.figures.nmf_grid(f).save("blocks.4.1.svg")
    wa.banding(net)
    wa.visualize(net, "blocks.4.1", units=[3, 17])

Names are loaded when first used, so importing the package is quick and does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .records import base as records_base

if TYPE_CHECKING:
    from . import featurevis as featurevis
    from . import figures as figures
    from .bands import banding as banding
    from .builder import article as article
    from .builder import build as build
    from .builder import estimate_build as estimate_build
    from .builder import explain as explain
    from .builder import figure as figure
    from .builder import figure_kinds as figure_kinds
    from .builder import gradient_cases as gradient_cases
    from .builder import overview as overview
    from .errors import WeightAtlasError as WeightAtlasError
    from .errors import WeightAtlasWarning as WeightAtlasWarning
    from .explorer import export_site as export_site
    from .explorer import serve as serve
    from .factor import factorize as factorize
    from .featurevis import Recipe as Recipe
    from .featurevis import visualize as visualize
    from .graph import layer_graph as layer_graph
    from .lens import activations as activations
    from .lens import attributions as attributions
    from .lens import dataset_examples as dataset_examples
    from .models import InputSpec as InputSpec
    from .models.downloads.caching import forget_pin as forget_pin
    from .models.listing import available_models as available_models
    from .network import Network as Network
    from .network import load as load
    from .records import Activations as Activations
    from .records import Attributions as Attributions
    from .records import DatasetExamples as DatasetExamples
    from .records import Explanation as Explanation
    from .records import Factors as Factors
    from .records import FeatureImages as FeatureImages
    from .records import GradientCases as GradientCases
    from .records import Weights as Weights
    from .records import agreement as agreement
    from .store import Atlas as Atlas
    from .store import check_atlas as check_atlas
    from .weights import direct_weights as direct_weights
    from .weights import expanded_paths as expanded_paths
    from .weights import expanded_weights as expanded_weights
    from .weights import expected_gradient as expected_gradient
    from .weights import measure as measure
    from .weights import register_rule as register_rule

    __version__: str

_HOMES = {
    "InputSpec": "models",
    "Network": "network",
    "load": "network",
    "available_models": "models.listing",
    "forget_pin": "models.downloads.caching",
    "direct_weights": "weights",
    "expanded_weights": "weights",
    "expanded_paths": "weights",
    "register_rule": "weights",
    "measure": "weights",
    "expected_gradient": "weights",
    "agreement": "records",
    "layer_graph": "graph",
    "activations": "lens",
    "Activations": "records",
    "dataset_examples": "lens",
    "DatasetExamples": "records",
    "attributions": "lens",
    "gradient_cases": "builder",
    "GradientCases": "records",
    "Attributions": "records",
    "Weights": "records",
    "factorize": "factor",
    "Factors": "records",
    "banding": "bands",
    "visualize": "featurevis",
    "featurevis": "featurevis",
    "Recipe": "featurevis",
    "FeatureImages": "records",
    "figures": "figures",
    "explain": "builder",
    "Explanation": "records",
    "figure": "builder",
    "figure_kinds": "builder",
    "overview": "builder",
    "article": "builder",
    "build": "builder",
    "estimate_build": "builder",
    "Atlas": "store",
    "check_atlas": "store",
    "serve": "explorer",
    "export_site": "explorer",
    "WeightAtlasError": "errors",
    "WeightAtlasWarning": "errors",
}
__all__ = [
    "InputSpec",
    "Network",
    "load",
    "available_models",
    "forget_pin",
    "direct_weights",
    "expanded_weights",
    "expanded_paths",
    "register_rule",
    "measure",
    "expected_gradient",
    "agreement",
    "layer_graph",
    "activations",
    "Activations",
    "dataset_examples",
    "DatasetExamples",
    "attributions",
    "gradient_cases",
    "GradientCases",
    "Attributions",
    "Weights",
    "factorize",
    "Factors",
    "banding",
    "visualize",
    "featurevis",
    "Recipe",
    "FeatureImages",
    "figures",
    "explain",
    "Explanation",
    "figure",
    "figure_kinds",
    "overview",
    "article",
    "build",
    "estimate_build",
    "Atlas",
    "check_atlas",
    "serve",
    "export_site",
    "WeightAtlasError",
    "WeightAtlasWarning",
]


def _show(record: Any) -> str:
    """Draws a record in a notebook; figures are imported only then."""
    from .notebook import show

    return show(record)


records_base.display_hook = _show


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("weightatlas")
    if name not in _HOMES:
        raise AttributeError(f"module 'weightatlas' has no attribute {name!r}; it has {', '.join(_HOMES)}")
    module = importlib.import_module(f".{_HOMES[name]}", __name__)
    value = module if name == _HOMES[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])
