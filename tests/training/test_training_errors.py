"""Settings that do not fit the data or the network are one clear error, not a traceback of the network's."""

import pytest

from mlcalc.errors import TrainingError
from mlcalc.training.settings import settings_from_dict
from mlcalc.training.trainer import Trainer


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("model", {"network": {"chanels": 4}}, "chanels"),
        ("model", {"architecture": "equivarient"}, "equivarient"),
        ("model", {"cutoff": 1.5}, "no two atoms are closer"),
        ("data", {"elements": ["Cu", "Au"]}, "Au"),
    ],
)
def test_settings_that_do_not_fit_are_named(values, tmp_path, section, change, named):
    wrong = {**values, "out": str(tmp_path), section: {**values[section], **change}}
    with pytest.raises(TrainingError, match=named):
        Trainer(settings_from_dict(wrong))
