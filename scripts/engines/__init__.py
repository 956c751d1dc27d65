"""Real engines from packages, for the cluster profile's tests: installed, started, watched and stopped by one command.

`base.py` is what an engine is, `control.py` starts and stops them, `catalogue.py` lists them. One file an engine.
"""
