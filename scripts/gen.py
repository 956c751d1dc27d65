"""Generates `gen/` from `proto/`: stubs, type stubs, one descriptor set, and the OpenAPI document of the REST face.

usage: python scripts/gen.py [OUT]      (OUT is gen/ when absent)
       python scripts/gen.py --image F  (only a descriptor set with comments, for buf)

google/api and google/rpc come from the googleapis-common-protos wheel; buf/validate/validate.proto from the
descriptor inside the protovalidate wheel. So one compiler, pinned, reads everything, and no copy is kept here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
VALIDATE = "buf/validate/validate.proto"


def run(*args: str) -> None:
    """Runs protoc; raises SystemExit with its status when it fails (it has said why)."""
    if status := protoc.main(["protoc", *args]):
        raise SystemExit(status)


def image(paths: list[str], out: Path, sources: list[str]) -> None:
    """Writes a descriptor set with comments."""
    run(*paths, "--include_imports", "--include_source_info", f"--descriptor_set_out={out}", *sources)


def main(argv: list[str]) -> None:
    """Writes what `argv` asks for."""
    google = Path(annotations_pb2.__file__).parent.parent.parent
    well_known = Path(str(resources.files("grpc_tools"))) / "_proto"
    sources = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        validate = Path(scratch) / "validate.binpb"
        described = descriptor_pb2.FileDescriptorSet()
        described.file.add().ParseFromString(validate_pb._DESC.proto.to_binary())
        well_known_set = Path(scratch) / "well_known.binpb"
        run(
            f"-I{well_known}",
            f"--descriptor_set_out={well_known_set}",
            *(f"google/protobuf/{n}.proto" for n in ("descriptor", "duration", "field_mask", "timestamp")),
        )
        described.file.extend(descriptor_pb2.FileDescriptorSet.FromString(well_known_set.read_bytes()).file)
        validate.write_bytes(described.SerializeToString())
        paths = [f"-I{PROTO}", f"-I{google}", f"-I{well_known}", f"--descriptor_set_in={validate}"]
        if argv[:1] == ["--image"]:
            image(paths, Path(argv[1]), sources)
            return
        out = Path(argv[0]) if argv else ROOT / "gen"
        fresh = Path(scratch) / "gen"
        fresh.mkdir()
        run(*paths, f"--python_out={fresh}", f"--mypy_out=quiet:{fresh}", VALIDATE, *sources)
        services = [s for s in sources if "\nservice " in (PROTO / s).read_text()]
        run(*paths, f"--grpc_python_out={fresh}", f"--mypy_grpc_out=quiet:{fresh}", *services)
        run(
            *paths,
            "--include_imports",
            f"--descriptor_set_out={fresh / 'descriptors.pb'}",
            *sources,
            "google/rpc/error_details.proto",
            "google/rpc/status.proto",
        )
        for folder in {p.parent for p in fresh.rglob("*.py")}:
            while folder != fresh:
                (folder / "__init__.py").touch()
                folder = folder.parent
        described_with_comments = Path(scratch) / "image.binpb"
        image(paths, described_with_comments, sources)
        # A process of its own: what it imports stands on the stubs that were just made.
        subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "openapi.py"), described_with_comments, fresh / "openapi.json"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(fresh), str(ROOT)))},
            check=True,
        )
        for left in fresh.rglob("__pycache__"):
            shutil.rmtree(left)
        if out.exists():
            shutil.rmtree(out)
        shutil.copytree(fresh, out)


if __name__ == "__main__":
    main(sys.argv[1:])
