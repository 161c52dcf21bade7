"""One runnable YAML per learner and showcase, found by name: ``--config iql``."""
