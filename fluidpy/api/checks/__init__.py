"""Checks that need more than one field or more than one object, one module a family of kinds.

Each is a function of loaded objects that adds to `Findings`; `fluidpy.api.validation` runs them.
"""
