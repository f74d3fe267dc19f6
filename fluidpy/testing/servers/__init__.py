"""Servers for tests, the quickstart and benchmarks, each started and ended by a context manager.

`seaweedfs` starts a real S3 server, `oss` one that checks signatures as OSS does, `moosefs` a
distributed file system (as root only); `fault_proxy` stands before an HTTP server and breaks
answers on purpose. All listen on loopback, or in a network of their own.
"""
