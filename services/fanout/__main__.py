"""Runs the `fanout` service: `python -m services.fanout`."""

from mesh.startup import importing

if __name__ == "__main__":
    with importing():
        from mesh.server import main
        from services.fanout.app import build
    main(build)
