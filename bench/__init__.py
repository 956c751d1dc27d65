"""What requests cost in CPU, measured next to the least that the same work can cost; see docs/benchmarks.md."""
