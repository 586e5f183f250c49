"""What every section of settings shares: frozen, no unknown keys, no silent conversions."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from neurofm.errors import UserError


class Settings(BaseModel):
    """A section of `params.yaml` (or of another file that a person writes).

    Each room defines its own; `neurofm.params` puts them together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, data: Any, *, where: str, mend: str) -> Self:
        """Validate plain data (as YAML gives it) without converting types behind the user's back.

        Parameters
        ----------
        data
            Mappings, lists, numbers, texts, booleans and None.
        where
            The file and section, for the error.
        mend
            What the error advises.

        Raises
        ------
        UserError
            In one line that names the key.
        """
        try:
            # Strict JSON mode takes lists for tuples and texts for enums, and refuses "20" for 20.
            return cls.model_validate_json(json.dumps(data))
        except (TypeError, ValueError) as error:
            if isinstance(error, ValidationError):
                raise UserError.from_validation(error, where=where, mend=mend) from None
            problem = f"{where}: {error}."
            raise UserError(problem, mend=mend) from None
