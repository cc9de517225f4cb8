"""Take the picture of the report's page that the README shows: `docs/figures/page.png`. Needs Chromium.

The page is of the plan that the README prints first, so its numbers are that block's.

    python scripts/make_page_picture.py
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "figures" / "page.png"
#: Width and height of the window, in CSS pixels: the answer's card as far as its warnings.
WINDOW = (1180, 900)


def asked() -> list[str]:
    """The options of the first plan in the README."""
    command = re.search(r"^\$ regrow plan ((?:.*\\\n)*.*)\n", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert command is not None, "README.md has no block of `regrow plan`"
    return shlex.split(command[1].replace("\\\n", " "))


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("error: no Chromium here; install the package chromium")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        subprocess.run([sys.executable, "-m", "regrow", "report", *asked(), "--out", str(page)], check=True)
        size = ",".join(map(str, WINDOW))
        plain = ["--headless", "--no-sandbox", "--hide-scrollbars"]
        wanted = [f"--window-size={size}", f"--screenshot={PICTURE}"]
        subprocess.run([browser, *plain, *wanted, page.as_uri()], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
