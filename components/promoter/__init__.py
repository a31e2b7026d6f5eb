"""The TFX component that moves an alias of the registry by an A/B test's verdict."""
