"""Graphs of training and what runs through them."""
