"""JuiceFSRuntime on the real engine: what is declared becomes arguments of the `juicefs` program.

Here belong the volume that a Dataset and its runtime declare (`volume`), the metadata address with
its password taken out (`meta_address`), the arguments of each command (`arguments`), what the
engine tells of itself (`measures`) and the driver that puts them together (`driver`). All of it is
pure: nothing here starts a process.
"""
