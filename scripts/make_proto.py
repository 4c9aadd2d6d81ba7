"""Compile src/breve/proto/*.proto into caffe.binpb, which breve reads; needs grpcio-tools (`make proto`)."""

import sys
from pathlib import Path

from grpc_tools import protoc

FOLDER = Path(__file__).resolve().parent.parent / "src" / "breve" / "proto"


def compile_schema(output: Path) -> None:
    """Write the descriptors of caffe.proto and of what it imports, without comments and positions, to `output`."""
    options = [f"--proto_path={FOLDER}", f"--descriptor_set_out={output}", "--include_imports"]
    if protoc.main(["protoc", *options, "caffe.proto"]):
        sys.exit("caffe.proto does not compile")


if __name__ == "__main__":
    compile_schema(FOLDER / "caffe.binpb")
