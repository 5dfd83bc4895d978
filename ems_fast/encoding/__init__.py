"""Sentences in, vectors out.

Nothing is imported here: what a token table needs to encode is little, and starts at once.
"""
