"""Runs the `graph` service: `python -m services.graph`."""

from mesh.startup import importing

if __name__ == "__main__":
    with importing():
        from mesh.server import main
        from services.graph.app import build
    main(build)
