"""Settings that contradict each other are refused, by name, before anything starts."""

import pytest

from engine.errors import OperatorError
from engine.settings import _AT_MOST, Settings


@pytest.mark.parametrize(("name", "other"), _AT_MOST.items())
def test_one_that_is_larger_than_its_bound_is_refused(name: str, other: str) -> None:
    value = max(2, Settings.model_fields[name].get_default())
    least = {"ttl_s_default": 1, "timed_ttl_s": 1}
    Settings.load(**least | {name: value, other: value})
    sentence = rf"^HONGBAO_{name.upper()} \({value}\) must be at most HONGBAO_{other.upper()} \({value - 1}\)\.$"
    with pytest.raises(OperatorError, match=sentence):
        Settings.load(**least | {name: value, other: value - 1})
