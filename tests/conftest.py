"""Settings of all tests."""

from hypothesis import settings

pytest_plugins = ['coverage_table', 'live_cluster']

# A busy machine stalls any example for longer than Hypothesis's deadline of 0.2 s.
settings.register_profile('any machine', deadline=None)
settings.load_profile('any machine')
