"""A mock LLM server for tests and measurements.

It knows nothing of the rest of the library, so that it is an honest witness against it: what a provider sends and reads
is checked by code that shares none of it. Standard library only.
"""

from .options import MockOptions
from .replies import ReceivedRequest, Reply
from .server import MockServer

__all__ = ["MockOptions", "MockServer", "ReceivedRequest", "Reply"]
