"""Runs the `graph` service: `python -m services.graph`."""

from mesh.server import main
from services.graph.app import build

if __name__ == "__main__":
    main(build)
