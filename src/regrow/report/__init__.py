"""A report from runs, laws and plans: one HTML page, Markdown or a picture, honest about measured and predicted."""

from regrow.report.write import FORMATS, build_markdown, build_picture, build_report, format_of, write_report

__all__ = ["FORMATS", "build_markdown", "build_picture", "build_report", "format_of", "write_report"]
