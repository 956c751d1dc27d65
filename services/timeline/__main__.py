"""Runs the `timeline` service: `python -m services.timeline`."""

from mesh.server import main
from services.timeline.app import build

if __name__ == "__main__":
    main(build)
