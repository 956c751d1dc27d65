"""Runs the `tweet` service: `python -m services.tweet`."""

from mesh.server import main
from services.tweet.app import build

if __name__ == "__main__":
    main(build)
