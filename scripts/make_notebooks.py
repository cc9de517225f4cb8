"""Run the notebooks of the documentation and write them as pages, with what they printed and drew.

    python scripts/make_notebooks.py

`make docs` runs this first. Notebooks are committed without outputs: last digits differ between machines, and an old
output would say what the code no longer does. The pages lie beside them and are not committed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"


def run(path: Path, *, also: str | None = None, timeout: int = 240) -> Any:
    """The notebook with its outputs, run where it lies; `also` is one more cell of code at its end.

    Raises nbclient's `CellExecutionError` where a cell does.
    """
    notebook = nbformat.read(path, as_version=4)
    if also is not None:
        notebook.cells.append(nbformat.v4.new_code_cell(also))
    NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


def page(notebook: Any, name: str) -> str:
    """The notebook as Markdown: text as it is, code, and below it what was printed and drawn (not what was warned)."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        parts += filter(None, map(_output, cell.outputs))
    heading, _, rest = "\n\n".join(parts).partition("\n")
    return f"{heading}\n\n[As a notebook]({name}), to run and to change.\n{rest}\n"


def _output(output: Any) -> str | None:
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```" if output.name == "stdout" else None
    shown = output.get("data", {})
    if "text/html" in shown:
        # Markdown takes HTML as it is up to the first empty line
        flat = re.sub(r"\s*\n\s*", " ", shown["text/html"])
        return f"<div>{flat}</div>"
    return f"```text\n{shown['text/plain'].rstrip()}\n```" if "text/plain" in shown else None


def main() -> None:
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        path.with_suffix(".md").write_text(page(run(path), path.name))


if __name__ == "__main__":
    main()
