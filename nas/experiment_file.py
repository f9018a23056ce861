"""What may stand in an experiment's YAML file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from nas.resources import Needs
from nas.searchers.choice import SEARCHERS, Model
from search_spaces.blocks import Precision

SCREENED, FUNNEL = "nsga2", "funnel"
DEFAULT_OBJECTIVES = ["bd_rate_lpips", "decode_ms"]

_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class ExperimentError(ValueError):
    """An experiment that cannot be run; the message names file and key."""


def _power_of_ten(value: Any) -> Any:
    """YAML reads 2.0e7, unlike 2.0e+7, as text."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
_Percent = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Number = Annotated[float, BeforeValidator(_power_of_ten), Field(allow_inf_nan=False)]
_Limits = Annotated[dict[str, _Number], Field(min_length=1)]
_Fidelity = Annotated[float, Field(gt=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SearcherFile(_Strict):
    """What proposes architectures."""

    name: StrictStr = SCREENED
    population: Annotated[int, Field(ge=2)] = 12
    model: Model = "ridge"
    kmacs_per_pixel: Annotated[list[_Number], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _keys_are_used(self) -> SearcherFile:
        if self.name in SEARCHERS and self.name != SCREENED and "model" in self.model_fields_set:
            raise ValueError(f"{self.name} takes no model; leave the key out")
        if self.name in SEARCHERS and self.name != FUNNEL and self.kmacs_per_pixel:
            raise ValueError(f"{self.name} has no filter by kmacs_per_pixel; leave the key out")
        return self


class ExperimentFile(_Strict):
    """An experiment's file, before anything that it names is looked at."""

    study: Name
    space: StrictStr | dict[str, Any]
    budget: Annotated[dict[str, _Limits], Field(min_length=1)] | None = None
    limits: dict[str, _Number] = {}
    objectives: Annotated[list[StrictStr], Field(min_length=1, max_length=3)] = DEFAULT_OBJECTIVES
    searcher: SearcherFile = SearcherFile()
    fidelities: Annotated[list[_Fidelity], Field(min_length=1)] = [1.0]
    start: list[dict[str, Any]] = []
    warm_start: Name | None = None
    plateau: Annotated[int, Field(ge=1)] | None = None
    evaluator: StrictStr = "evaluators.proxy:ProxyEvaluator"
    oracle: StrictStr | None = None
    oracle_settings: dict[str, Any] = {}
    data: StrictStr | None = None
    device: StrictStr | None = None
    anchor: StrictStr | None = None
    supernet: StrictStr | None = None
    precision: Precision = "fp16"
    margin: _Percent | dict[str, _Percent] | None = None
    proxy: dict[str, Any] = {}
    trials: Annotated[int, Field(ge=1)] | None = None
    hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"] = "auto"
    memory_gb: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    trial_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _gpus_are_whole(self) -> ExperimentFile:
        if self.gpus != "auto" and self.gpus > 1 and self.gpus % 1:
            raise ValueError(f"gpus: a share of one, or whole ones, not {self.gpus:g}")
        return self

    def needs(self, device: str | None) -> Needs:
        """What an evaluation needs of a machine.

        Args:
            device: that the evaluator runs on; None if it knows none.
        """
        return Needs(
            gpus=None if self.gpus == "auto" else self.gpus,
            device=device,
            memory_bytes=None if self.memory_gb is None else round(self.memory_gb * 2**30),
            seconds=None if self.trial_minutes is None else self.trial_minutes * 60,
            retries=self.retries,
        )


def require_name(name: str, where: str) -> None:
    """Fails unless `name` may name a study, and so a folder.

    Raises:
        ExperimentError: it may not.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise ExperimentError(
            f"{where}: {name!r} is not a name of letters, digits, dots, dashes and underscores"
        ) from None
