"""Where runs are kept: the catalogue (what is asked and changed) and the archive (what never changes).

Import from its modules; importing the package alone loads no database and no Parquet.
"""
