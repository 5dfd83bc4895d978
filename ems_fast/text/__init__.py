"""What is known of languages, and from raw text to tokens."""

from ems_fast.text.tokenizer import Tokenizer

__all__ = ["Tokenizer"]
