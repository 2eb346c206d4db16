"""Files that the worker interpreter runs by path; nothing here is imported by spikekit itself."""
