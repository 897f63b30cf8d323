"""Measuring flows, of tables and of images, by their exact likelihood and by what they draw."""
