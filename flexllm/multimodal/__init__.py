"""Tables and folders of pictures, asked as a whole: data frames and lists in, answers out, over the one batch of a client."""

from .folders import MllmFolderProcessor
from .tables import MllmTableProcessor

__all__ = ["MllmFolderProcessor", "MllmTableProcessor"]
