"""List the functional forms by name."""

from scaling.laws.forms.base import Form
from scaling.laws.forms.downstream import LOSS_TO_ERROR
from scaling.laws.forms.lr_batch import BATCH_LAW, LR_LAW, power_product
from scaling.laws.forms.one_input import BROKEN, LEVEL, M4, POWER, POWER_OFFSET, SHIFTED_POWER
from scaling.laws.forms.repeated import DATA_CONSTRAINED, DATA_CONSTRAINED_ONE_SIZE
from scaling.laws.forms.size_and_data import (
    CHINCHILLA,
    CHINCHILLA_TIED,
    KAPLAN,
    OVER_TRAINING,
)
from scaling.utils.errors import UserError

FORMS = {
    form.name: form
    for form in (
        CHINCHILLA,
        CHINCHILLA_TIED,
        KAPLAN,
        OVER_TRAINING,
        DATA_CONSTRAINED,
        DATA_CONSTRAINED_ONE_SIZE,
        LEVEL,
        POWER,
        POWER_OFFSET,
        SHIFTED_POWER,
        M4,
        BROKEN,
        LOSS_TO_ERROR,
        LR_LAW,
        BATCH_LAW,
    )
}

__all__ = ["FORMS", "Form", "form", "power_product"]


def form(name: str) -> Form:
    """Return the form of that name. Raises UserError with all names if it is unknown."""
    if name not in FORMS:
        raise UserError(f"no form {name!r}; choose from {', '.join(FORMS)}")
    return FORMS[name]
