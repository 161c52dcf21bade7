"""Reports: what is in a log, and what relabeling did to it, in numbers, plots and pages."""
