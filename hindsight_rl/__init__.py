"""Hindsight: from a log of mixed quality to a policy in one ONNX file."""
