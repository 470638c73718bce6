"""Arithmetic, one folder per operator. Import as ``genfast.kernels``; README.md beside this file is the legend."""
