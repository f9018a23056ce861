"""What a search space holds, for people and as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from nas.budget import decoder_kmacs
from search_spaces.space import Parameter, SearchSpace

SAMPLES = 2000


def space_document(space: SearchSpace) -> dict[str, Any]:
    """A space, JSON-ready.

    Returns:
        `name`, `size` (exact), `exact`, `block_signatures` and `kmacs_per_pixel` ([low, high] of
        the decoder) as found among `sampled` uniformly drawn architectures, and `parameters`.
    """
    codes = np.unique(space.sample(np.random.default_rng(0), SAMPLES), axis=0)
    designs = [space.design(space.architecture(code)) for code in [space.reference.code, *codes]]
    work = [decoder_kmacs(design) for design in designs]
    return {
        "name": space.name,
        "size": space.size,
        "exact": True,
        "block_signatures": len({b.signature for d in designs for b in d.accelerator_blocks}),
        "kmacs_per_pixel": [min(work), max(work)],
        "sampled": len(designs),
        "parameters": [_parameter(parameter) for parameter in space.parameters],
        "fixed": dict(space.fixed),
        "reference": dict(space.reference.choices),
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    when = parameter.when and {"parameter": parameter.when[0], "choices": list(parameter.when[1])}
    return {"name": parameter.name, "choices": list(parameter.choices), "when": when}
