"""Arrays in, arrays out: the only part that is compiled. Nothing here knows of blobs, layers or files."""
