"""Runs the `user` service: `python -m services.user`."""

from mesh.startup import importing

if __name__ == "__main__":
    with importing():
        from mesh.server import main
        from services.user.app import build
    main(build)
