"""A policy file becomes C99: one ``.c`` file and its ``.h``, for machines without Python.

    graph      the ONNX graph for one row: folded to what depends on inputs, shapes all known
    memory     which tensors may share memory
    code       the body of the C function, and what it needs: constants, helpers
    operators  one emitter per operator, a file per family
    interface  struct, ``NAME_reset``, ``NAME_act``, ``NAME_executed``, as the contract says
    self_test  the probe rows of the contract as a program
    source     all of it together
    compiler   compiles that program and runs it

It needs ``onnx`` and numpy.
"""
