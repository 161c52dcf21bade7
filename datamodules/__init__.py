"""Logs in, batches out: the sampler, the replay and the datamodules."""
