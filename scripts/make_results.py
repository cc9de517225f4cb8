"""Write the tables and pictures of docs/results.md from the records of the reference studies.

    python scripts/make_results.py [--page docs/results.md] [--studies studies] [--only NAME...]

The page's text is written by people and kept; what stands between `<!-- table: NAME -->` and `<!-- end -->` is written
anew. Everything is computed from the archives in `studies/` with fixed seeds, so that equal records give an equal page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from results.evidence import Evidence
from results.layout import as_markdown, fill
from results.pictures import pictures
from results.tables import TABLES

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md")
    parser.add_argument("--studies", type=Path, default=ROOT / "studies")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted(TABLES), help="these tables, no pictures")
    options = parser.parse_args()
    seen = Evidence(options.studies)
    say = lambda name, table: (print(f"{name}...", file=sys.stderr), as_markdown(table(seen)))[1]  # noqa: E731
    tables = {name: (lambda n=name, t=table: say(n, t)) for name, table in TABLES.items()}
    options.page.write_text(fill(options.page.read_text(), tables, only=options.only))
    if options.only is not None:
        return
    folder = options.page.parent / "figures"
    folder.mkdir(exist_ok=True)
    for name, picture in pictures(seen):
        print(f"{name}...", file=sys.stderr)
        (folder / name).write_text(picture)


if __name__ == "__main__":
    main()
