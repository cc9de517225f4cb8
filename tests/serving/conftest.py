"""Lets the tests here import `tiny_families`, which lies with the tests of models/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
