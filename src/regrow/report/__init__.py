"""One HTML page from runs, laws and plans: self-contained, and honest about what was measured and what predicted."""

from regrow.report.page import build_report, write_report

__all__ = ["build_report", "write_report"]
