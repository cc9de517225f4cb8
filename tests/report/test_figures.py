"""What the charts' legends and groups say."""

from __future__ import annotations

from regrow.report.curves import fits_of
from regrow.report.figures import curve_panels, rate_groups


def fits(law, make_run, cells):
    return fits_of(law, [make_run(law, size, rate) for size, rate in cells], [])[0]


def test_rates_that_differ_by_whole_blocks_share_a_key(make_law, make_run) -> None:
    law = make_law()
    cells = [(1_200_000, 0.163), (300_000, 0.169), (600_000, 0.172), (1_200_000, 0.327), (300_000, 0.337)]
    seen = fits(law, make_run, cells)
    assert rate_groups([fit.run for fit in seen]) == [["0.163", "0.169", "0.172"], ["0.327", "0.337"]]
    _, keys = curve_panels(law, seen, "x")
    assert [key.text for key in keys] == ["rate 0.163 to 0.172", "rate 0.327 to 0.337"]


def test_two_rates_of_one_size_are_two(make_law, make_run) -> None:
    law = make_law()
    seen = fits(law, make_run, [(1_200_000, 0.25), (1_200_000, 0.26), (300_000, 0.25)])
    assert rate_groups([fit.run for fit in seen]) == [["0.25"], ["0.26"]]
