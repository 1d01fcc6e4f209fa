"""Samples: stores of views, folders of pictures, made-up objects, converters of public data."""
