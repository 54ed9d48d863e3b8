"""Which axes of a parameter make the matrix that it multiplies by: for optimizers that treat matrices as such.

Shapes: D model width, H heads, K head size, X query, key and value, F hidden width of the MLP, G its input matrices,
E experts, S state of a recurrence, Z gates, P parts of a complex product, J taps of a kernel or tokens of a window.
"""

from __future__ import annotations

from scaling.utils.errors import UserError

# name -> (axes summed over, axes of the result), counted from the last. All others are stacks of matrices: layers,
# or the query, key and value of one array. None: no matrix.
MATRICES: dict[str, tuple[tuple[int, ...], tuple[int, ...]] | None] = {
    "w_DHXK": ((-4,), (-3, -1)),
    "w_HKD": ((-3, -2), (-1,)),
    "w_DGF": ((-3,), (-1,)),
    "w_FD": ((-2,), (-1,)),
    "w_EDGF": ((-3,), (-1,)),
    "w_EFD": ((-2,), (-1,)),
    "w_DE": None,  # the router, a head over experts
    "w_DZS": ((-3,), (-1,)),
    "w_SZS": ((-3,), (-1,)),
    "w_SD": ((-2,), (-1,)),
    "w_DPS": ((-3,), (-1,)),
    "w_PSD": ((-3, -2), (-1,)),
    "w_JD": None,  # one filter per channel
    "w_JJD": None,
    "w_JDD": ((-3, -2), (-1,)),
}


def matrix_axes(name: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """(axes summed over, axes of the result) of the parameter of that name; None for what is no matrix.

    Raises UserError for a weight `w_...` that MATRICES does not name.
    """
    if not name.startswith("w_"):
        return None
    if name not in MATRICES:
        raise UserError(
            f"config.optim.name='muon': scaling/models/matrices.py does not say which axes of {name} make a "
            "matrix; name them there, or choose 'adamw'"
        )
    return MATRICES[name]
