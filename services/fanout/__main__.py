"""Runs the `fanout` service: `python -m services.fanout`."""

from mesh.server import main
from services.fanout.app import build

if __name__ == "__main__":
    main(build)
