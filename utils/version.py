"""The program's name and version, for what it writes into other programs' files."""

NAME = "QFAE"
VERSION = "0.1.0"
