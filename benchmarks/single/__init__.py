"""Scenarios on one machine: SeaweedFS as the source, fluidpy beside obstore alone."""
