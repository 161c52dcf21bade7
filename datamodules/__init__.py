"""Logs in, batches out: readers with a column map, one packed log, the sampler, the datamodules."""
