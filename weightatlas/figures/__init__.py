"""Pictures of records: SVG, PNG and HTML fragments. Knows no network, writes only where ``.save`` is told."""

from .banding import banding_plot as banding_plot
from .cancelling import pathways as pathways
from .figure import Figure as Figure
from .figure import check_path as check_path
from .figure import check_width as check_width
from .graphs import graph_figure as graph_figure
from .grids import has_own_colours as has_own_colours
from .grids import nmf_grid as nmf_grid
from .grids import pixel_grid as pixel_grid
from .grids import signed_maps as signed_maps
from .lettering import visible as visible
from .page import page as page
from .scene import escape as escape
from .sheets import MOST_SHOWN as MOST_SHOWN
from .sheets import contact_sheet as contact_sheet
from .sheets import flat_colours as flat_colours
from .strongest import UNITS_SHOWN as UNITS_SHOWN
from .strongest import connections as connections
from .tables import HEADERS as HEADERS
from .tables import cells as cells
from .tables import layer_table as layer_table
from .theme import Palette as Palette
from .theme import Theme as Theme
