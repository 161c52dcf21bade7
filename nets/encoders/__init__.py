"""Encoders: what a network is given, standardised and joined."""
