"""Words that timm reads, checked without importing it: planning stays without torch."""

import re
from typing import Annotated

from pydantic import AfterValidator

# What timm reads of them; others it drops in silence, or trips over once a run has begun.
WORDS = "-mN (strength), -nN (operations), -pX (probability), -mstdX, -mmaxN, -inc0, -inc1, -tweights, -t3a, -t3aw"
PATTERN = re.compile(r"rand(-(m\d+|n[1-9]\d*|p(0\.\d+|1)|mstd\d+(\.\d+)?|mmax[1-9]\d*|inc[01]|t(weights|3aw?)))*")


def check_rand_augment(words: str) -> str:
    """Return `words` if timm's RandAugment reads each of them; ValueError with what is allowed."""
    if not PATTERN.fullmatch(words):
        raise ValueError(f"{words!r}; allowed: rand, then any of {WORDS}, for example rand-m7-n4-mstd0.5-inc1")
    return words


RandAugment = Annotated[str, AfterValidator(check_rand_augment)]
