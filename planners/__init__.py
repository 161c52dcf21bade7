"""Planners: actions by what a model says they lead to. They label and collect; none is exported."""
