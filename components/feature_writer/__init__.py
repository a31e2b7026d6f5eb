"""The TFX component that writes examples of a pipeline, such as predictions, into a table."""
