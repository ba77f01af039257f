"""Spreadsheets as people really send them, turned into rows of plain text, and back."""
