"""What the figures of "Visualizing Weights" show of InceptionV1: its own layers and units.

Where each is from, as far as it could be checked:

- captions and text of the article: Figures 1, 2, 4 and 7 to 13;
- the names inside the drawings of its Figures 3, 5 and 12, which link every picture to its unit;
- "Zoom In" (Olah et al., 2020) for the car detector, which the caption of Figure 6 does not name;
- "An Overview of Early Vision in InceptionV1" (Olah et al., 2020) and "Curve Detectors" (Cammarata et al., 2020), whose
  lists of curve and high-low frequency detectors hold all units of those families here.

The article reads weights of mixed3a on the grid behind the pooling, maxpool1, and shows pictures of conv2d2: pooling
keeps channels, so that their numbers are the same.

Source: Voss et al., "Visualizing Weights", Distill 2021, doi 10.23915/distill.00024.007.
"""

from __future__ import annotations

from ..spec import ArticleFigure

#: Full curve detectors of mixed3b and early ones of mixed3a, in the order of Figure 5.
CURVES = (379, 406, 385, 343, 342, 324, 330, 349)
EARLY_CURVES = (147, 189, 81, 104, 145, 95, 71, 171)
#: High-low frequency detectors of mixed3a, in the order of Figure 7.
HIGH_LOW = (136, 108, 132, 88, 110, 180)

FIGURES = {
    "Figure 1": ArticleFigure(
        "mixed4d_5x5",
        {"units": range(10)},
        "As in the article: mixed4d_5x5, ten units; it does not say which, here they are the first.",
    ),
    "Figure 2, the strongest": ArticleFigure(
        "mixed5b_5x5",
        {"units": range(8), "per_unit": True},
        "As in the article: mixed5b_5x5, eight units; it does not say which, here they are the first. The article's "
        "factors are shared by all units.",
    ),
    "Figure 3": ArticleFigure(
        "mixed4b:443",
        {"source": "mixed4a:308"},
        "As in the article, where a head detector (mixed4a:308) is attached to a body (mixed4b:443).",
    ),
    "Figure 4": ArticleFigure(
        "mixed3b:342",
        {"source": "mixed3a", "k": 3},
        "As in the article: mixed3b:342, a curve detector, and the three units of mixed3a with most weight on it.",
    ),
    "Figure 5": ArticleFigure(
        "mixed3b",
        {"source": "mixed3a", "targets": CURVES, "sources": EARLY_CURVES, "order": "given"},
        "As in the article: eight full curve detectors of mixed3b and eight early ones of mixed3a, in its order.",
    ),
    "Figure 6": ArticleFigure(
        "mixed4c:447",
        {"source": "mixed4b"},
        'As in the article, a car detector; it does not name its unit, mixed4c:447 is the one that "Zoom In" '
        "describes.",
    ),
    "Figure 7": ArticleFigure(
        "mixed3a",
        {"source": "maxpool1", "units": HIGH_LOW, "rank": 2},
        "As in the article: six high-low frequency detectors of mixed3a, read on the grid behind the pooling. Units "
        "of maxpool1 are those of conv2d2.",
    ),
    "Figure 8": ArticleFigure(
        "mixed3a",
        {"source": "maxpool1", "units": HIGH_LOW, "rank": 2},
        "As in the article: the factors of figure 7.",
    ),
    "Figure 9": ArticleFigure(
        "mixed3b:208",
        {"source": "mixed3a", "k": 5},
        "As in the article: mixed3b:208, a black and white center detector, and the five units of mixed3a with most "
        "weight on it.",
    ),
    "Figure 10": ArticleFigure(
        "mixed3b:208",
        {"source": "maxpool1", "k": 18},
        "As in the article: the unit of figure 9 and the eighteen units of conv2d2 with most weight on it, read on the "
        "grid behind the pooling, maxpool1.",
    ),
    "Figures 11 and 12": ArticleFigure(
        "mixed3b:345",
        {"source": "conv2d2:89", "through": "mixed3a"},
        "As in the article: mixed3b:345, a boundary detector, and conv2d2:89, which acts on it through the high-low "
        "frequency detectors of mixed3a.",
    ),
    "Figure 13": ArticleFigure(
        "mixed3b:268",
        {"source": "conv2d1", "k": 9},
        "As in the article: mixed3b:268 from conv2d1.",
    ),
    "A card": ArticleFigure(
        "mixed3b:379",
        {"source": "mixed3a"},
        'The article has no such figure; mixed3b:379 is the curve detector that "Curve Detectors" studies most.',
    ),
}
