"""Feature visualization: a picture of what every unit detects.

Four nouns that compose: an :class:`Objective` says what to excite, a canvas what is optimised, transforms how it is
seen, and a :class:`Recipe` holds the settings of all of them::

    from weightatlas import featurevis as fv

    both = fv.unit("blocks.4.1", 3) + fv.unit("blocks.4.1", 17)
    wa.visualize(net, objective=both, recipe=fv.recipe_for(net, "blocks.4.1").but(steps=96))
"""

from .algebra import Objective as Objective
from .algebra import Seen as Seen
from .objectives import At as At
from .objectives import direction as direction
from .objectives import directions as directions
from .objectives import unit as unit
from .objectives import units as units
from .objectives import whole_layer as whole_layer
from .penalties import distance_from_grey as distance_from_grey
from .penalties import diversity as diversity
from .penalties import opacity as opacity
from .penalties import total_variation as total_variation
from .prepared import Prepared as Prepared
from .recipes import Recipe as Recipe
from .recipes import recipe_for as recipe_for
from .render import seed_of as seed_of
from .visualizing import speed_of as speed_of
from .visualizing import visualize as visualize
