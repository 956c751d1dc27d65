"""Runs the `moderation` service: `python -m services.moderation`."""

from mesh.server import main
from services.moderation.app import build

if __name__ == "__main__":
    main(build)
