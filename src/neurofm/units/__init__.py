"""Units of work: keys, receipts, executors."""

from neurofm.units.choice import open_executor
from neurofm.units.executor import Executor
from neurofm.units.index import Index, IndexedFile, read_index
from neurofm.units.key import code_digest, unit_key
from neurofm.units.local import LocalExecutor
from neurofm.units.receipt import Receipt, ReceiptBook, read_receipts, write_receipts
from neurofm.units.resources import ExecutorName, Resources, SlurmSite, UnitsSite
from neurofm.units.run import run_units
from neurofm.units.side_by_side import side_by_side
from neurofm.units.slurm import SlurmExecutor
from neurofm.units.unit import Outcome, Superseded, Unit, UnitSummary

__all__ = [
    "Executor",
    "ExecutorName",
    "Index",
    "IndexedFile",
    "LocalExecutor",
    "Outcome",
    "Receipt",
    "ReceiptBook",
    "Resources",
    "SlurmExecutor",
    "SlurmSite",
    "Superseded",
    "Unit",
    "UnitSummary",
    "UnitsSite",
    "code_digest",
    "open_executor",
    "read_index",
    "read_receipts",
    "run_units",
    "side_by_side",
    "unit_key",
    "write_receipts",
]
