"""Units of work: keys, receipts, executors."""

from neurofm.units.key import code_digest, unit_key
from neurofm.units.local import run_units
from neurofm.units.receipt import Receipt, read_receipts, write_receipts
from neurofm.units.unit import Outcome, Unit, UnitSummary

__all__ = [
    "Outcome",
    "Receipt",
    "Unit",
    "UnitSummary",
    "code_digest",
    "read_receipts",
    "run_units",
    "unit_key",
    "write_receipts",
]
