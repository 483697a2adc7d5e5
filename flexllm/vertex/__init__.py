"""Vertex AI's own needs: its base URLs, and access tokens from Google credentials, one renewal at a time for all threads.

What is sent with a token is `wire.py`'s and the provider's matter.
"""

from .google import SCOPE, TOKEN_TIMEOUT
from .tokens import REFRESH_MARGIN, RENEW_PAUSE, GoogleCredentials, google_credentials
from .urls import vertex_base_url

__all__ = [
    "REFRESH_MARGIN",
    "RENEW_PAUSE",
    "SCOPE",
    "TOKEN_TIMEOUT",
    "GoogleCredentials",
    "google_credentials",
    "vertex_base_url",
]
