"""What is known of languages, from raw text to tokens, and text laid out for people."""
