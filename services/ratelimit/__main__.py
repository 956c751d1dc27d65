"""Runs the `ratelimit` service: `python -m services.ratelimit`."""

from mesh.startup import importing

if __name__ == "__main__":
    with importing():
        from mesh.server import main
        from services.ratelimit.app import build
    main(build)
