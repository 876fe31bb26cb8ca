"""The explorer: one static page over an atlas, and the small server that lets it ask for what is missing."""

from .exporting import Exported as Exported
from .exporting import export_site as export_site
from .serving import serve as serve
