"""Runs the `tweet` service: `python -m services.tweet`."""

from mesh.startup import importing

if __name__ == "__main__":
    with importing():
        from mesh.server import main
        from services.tweet.app import build
    main(build)
