"""What is left of an account's credit: for each service that tells, the requests that ask it and the reader of its replies.

Found by the host of a base URL. Each request goes to the service's own address alone, over https, so that a key never
reaches anybody else. Pure: who sends the requests is the caller's business. Source: the services' API references; for
OpenAI, which documents none, what its dashboard asks.
"""

from .balance import Balance, BalanceService
from .services import find_service

__all__ = ["Balance", "BalanceService", "find_service"]
