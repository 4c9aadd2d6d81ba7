"""Where data comes from: databases, image files, HDF5, MNIST; how it is transformed and read ahead."""
