"""What Caffe's files say: the schema, text with line numbers, binary files, and the upgrade of old forms."""

from breve.proto.schema import MESSAGES

NetParameter = MESSAGES["NetParameter"]
LayerParameter = MESSAGES["LayerParameter"]
SolverParameter = MESSAGES["SolverParameter"]
SolverState = MESSAGES["SolverState"]
BlobProto = MESSAGES["BlobProto"]
Datum = MESSAGES["Datum"]
FillerParameter = MESSAGES["FillerParameter"]
NetState = MESSAGES["NetState"]

__all__ = [
    "MESSAGES",
    "BlobProto",
    "Datum",
    "FillerParameter",
    "LayerParameter",
    "NetParameter",
    "NetState",
    "SolverParameter",
    "SolverState",
]
