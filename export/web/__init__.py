"""A policy file becomes a folder for a web server: a page that runs, proves and explains it.

    page    what the page is made of: HTML, CSS and modules of JavaScript
    ort     onnxruntime-web, as npm installed it: which files, and whether they are whole
    write   the folder

The reader of policy files in JavaScript, ``runners/js``, is copied beside the page. It needs numpy
and onnxruntime, as every export.
"""
