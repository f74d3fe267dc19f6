"""fluidpy's mount beside JuiceFS, rclone, s3fs-fuse and the plain directory: same data, same run.

`reader` is the program that reads, the same for all; a `System` mounts the data its own way; a
scenario is read round by round, each system in turn, and compared with the plain directory.
"""
