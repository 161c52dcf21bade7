"""Export: one ONNX file with a contract, and the runtime that plays it without PyTorch.

``onnx`` knows torch. ``modelfile``, ``contract``, ``verify`` and ``runtime`` import numpy,
onnxruntime and the standard library only: they are all a robot needs.
"""
