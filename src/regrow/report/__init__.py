"""A report from runs, laws and plans: one HTML page, Markdown or a picture, honest about measured and predicted."""

from regrow.report.answers import Answers, answer
from regrow.report.question import Question
from regrow.report.show import Figure, show_collapse, show_comparison, show_controls, show_curves, show_residuals
from regrow.report.write import FORMATS, build_markdown, build_picture, build_report, format_of, write_report

__all__ = [
    "FORMATS",
    "Answers",
    "Figure",
    "Question",
    "answer",
    "build_markdown",
    "build_picture",
    "build_report",
    "format_of",
    "show_collapse",
    "show_comparison",
    "show_controls",
    "show_curves",
    "show_residuals",
    "write_report",
]
