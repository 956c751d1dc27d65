"""The store: a port (`base.py`) and its adapters, which hold queries only."""
