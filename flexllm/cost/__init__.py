"""What requests cost: from usage and prices to dollars, counted, reported and limited."""

from .report import CostReport
from .spend import Spend

__all__ = ["CostReport", "Spend"]
