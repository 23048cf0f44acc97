"""How Hypothesis runs for mutants: the first failure is the verdict, neither made smaller nor kept."""

from __future__ import annotations

import pytest

__all__ = ["Profile"]


class Profile:
    """A pytest plugin, since Hypothesis must not be imported before pytest's own plugin does."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        settings.register_profile("mutants", database=None, deadline=None, phases=[Phase.explicit, Phase.generate])
        settings.load_profile("mutants")
