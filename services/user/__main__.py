"""Runs the `user` service: `python -m services.user`."""

from mesh.server import main
from services.user.app import build

if __name__ == "__main__":
    main(build)
