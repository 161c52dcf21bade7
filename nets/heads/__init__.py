"""Heads: families of distributions of actions, one file each, named after its kind.

The next head takes three files: ``nets/heads/<kind>.py``, its word in ``HeadKind`` with fields of
its own if it has any (``nets/network.py``), and ``tests/nets/test_<kind>.py``. What every head
promises is tested by walking this folder.
"""
