"""docs/training.md lists every setting with its default."""

import re
from pathlib import Path

import yaml

from mlcalc.training.settings import TrainingSettings

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_page_lists_every_setting_with_its_default():
    block = re.search(r"```yaml everything\.yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    assert yaml.safe_load(block.group(1)) == TrainingSettings().to_dict()
