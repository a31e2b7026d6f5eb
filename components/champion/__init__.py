"""The TFX component that takes the champion out of the registry, for a warm start, a comparison, or batch inference."""
