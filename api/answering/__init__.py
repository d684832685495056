"""Answers in words: from passages that were found to a text whose citations have been checked."""
