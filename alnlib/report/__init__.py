"""How results are shown: figures, tables and numbers in prose. Nothing is computed here that a table does not hold."""
