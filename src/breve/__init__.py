"""Caffe, in short: convolutional networks that train fast on a CPU and show how every gradient came about."""

__version__ = "0.1.0"
