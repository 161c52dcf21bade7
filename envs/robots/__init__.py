"""Robots with many tasks, on plain MuJoCo: one alone, or many that step together.

They need the extra ``robots``; MuJoCo is imported when an environment is made.
"""
