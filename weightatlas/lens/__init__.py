"""What a network does on images: reading them, activations of units."""

from .attributing import attributions as attributions
from .collection import Photos as Photos
from .collection import photos_from as photos_from
from .cropping import box as box
from .cropping import cell as cell
from .cropping import crops as crops
from .differentiating import Example as Example
from .differentiating import gradients as gradients
from .differentiating import reads_alike as reads_alike
from .differentiating import unit_maps as unit_maps
from .mapping import activations as activations
from .reading import picture_from as picture_from
from .reading import picture_notes as picture_notes
from .reading import read_image as read_image
from .reading import read_images as read_images
from .streaming import Activity as Activity
from .streaming import activity as activity
from .surveying import dataset_examples as dataset_examples
