"""fluidpy: training data from any number of stores as one cached directory and one URL.

This package root stays light: importing it must cost next to nothing, since every training
process does so through fsspec. Nothing is re-exported here but the version.
"""

__version__ = "0.1.0"
