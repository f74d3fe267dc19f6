"""Servers for tests, the quickstart and benchmarks, each started and ended by a context manager.

`seaweedfs` starts a real S3 server, `oss` one that checks signatures as OSS does, `fault_proxy`
stands before any of them and breaks answers on purpose. All listen on loopback only.
"""
