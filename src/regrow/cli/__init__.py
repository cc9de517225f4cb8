"""The command line: one file per command; each imports its room inside the handler, so that light ones start fast."""
