"""Figures and the self-contained HTML report."""

from neurofm.report.build import build_report

__all__ = ["build_report"]
