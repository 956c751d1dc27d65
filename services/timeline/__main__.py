"""Runs the `timeline` service: `python -m services.timeline`."""

from mesh.startup import importing

if __name__ == "__main__":
    with importing():
        from mesh.server import main
        from services.timeline.app import build
    main(build)
