"""Structured output: what a caller may give as `response_format`, and the value that is read from a reply to it.

No request is sent here, and no provider known. jsonschema (for schemas given as dictionaries) comes in by `validation`,
pydantic (for its models) by `models`; both are optional.
"""

from .formats import ResponseFormat, as_response_format, check_format
from .replies import complaint, parse_reply

__all__ = ["ResponseFormat", "as_response_format", "check_format", "complaint", "parse_reply"]
