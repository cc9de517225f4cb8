"""From run records to laws of the form `regrowth`: which runs share a law (`pool`), the fit (`fit`), and its proof by
held-out runs (`held_out`). The mathematics is in `regrow.laws.regrowth`."""
