"""Tables and pictures of docs/results.md, one module for each kind of table; `tables.py` names them all."""
