"""Notebooks run headlessly into self-contained HTML reports."""
