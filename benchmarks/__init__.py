"""Benchmarks of fluidpy against a limit or a peer, one command each: `python -m benchmarks NAME`.

Each figure is a ratio of medians of interleaved pairs (limit, ours, limit, ours, …) from one run on
one machine; results are kept as JSON with the facts of that machine in `benchmarks/results/`.
"""
