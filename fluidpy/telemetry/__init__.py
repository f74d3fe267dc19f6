"""What fluidpy tells about itself: log lines and counters.

Here belongs how a process logs (`logs`), the one table of counters (`counters`), the one table of
Prometheus metrics (`metrics`), which has every counter in it, and how samples of these become text
(`exposition`, `worker_samples`). Nothing here acts on a Dataset, and no secret, path or user name
is ever the label of a metric.
"""
