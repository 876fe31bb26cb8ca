"""The atlas folder: everything about one model, readable without this package, safe against kills and damage."""

from .atlas import Atlas as Atlas
from .checking import Report as Report
from .checking import check_atlas as check_atlas
from .files import Files as Files
from .files import LocalFiles as LocalFiles
from .listing import Listing as Listing
from .overview import NOT_MEASURED as NOT_MEASURED
from .overview import Overview as Overview
from .places import open_files as open_files
from .wanted import Wanted as Wanted
from .wanted import WantedPair as WantedPair
