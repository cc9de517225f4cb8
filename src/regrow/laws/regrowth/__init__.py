"""The law `regrowth`: a gap that pruning opened closes as a power of the tokens, the same way for every run but for
effects of its family, its model, its method, its cell and itself.

`curve` has the formula, `runs` the arrays, `effects` what differs between runs and by how much, `mixed` the Gaussian
mixed model, `estimate` the fit, `draws` runs that were never seen, `condition` a run under way.
"""
