"""The two objectives as tensor operations, and the implementations behind them.

Nothing is imported here: what runs without torch lies beside what needs it.
"""
