"""Cross-lingual token-level reconstruction (XTR)."""
