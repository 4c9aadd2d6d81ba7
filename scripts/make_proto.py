"""Compile src/breve/proto/caffe.proto into caffe.binpb, which breve reads; needs grpcio-tools (`make proto`)."""

import sys
from pathlib import Path

from grpc_tools import protoc

FOLDER = Path(__file__).resolve().parent.parent / "src" / "breve" / "proto"


def compile_schema(output: Path) -> None:
    """Write the descriptors of caffe.proto, without comments and positions, to `output`."""
    arguments = ["protoc", f"--proto_path={FOLDER}", f"--descriptor_set_out={output}", "caffe.proto"]
    if protoc.main(arguments):
        sys.exit("caffe.proto does not compile")


if __name__ == "__main__":
    compile_schema(FOLDER / "caffe.binpb")
