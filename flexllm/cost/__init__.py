"""What requests cost: from usage and prices to dollars, counted, reported and limited."""

from ..amounts import dollars
from .bill import Bill, charge, lost
from .counter import CostCounter
from .report import CostLine, CostReport
from .spend import Spend

__all__ = ["Bill", "CostCounter", "CostLine", "CostReport", "Spend", "charge", "dollars", "lost"]
