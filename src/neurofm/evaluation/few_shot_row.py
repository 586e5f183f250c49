"""Few-shot row: one point of a curve of scores over labels, as ``metrics/few_shot.json`` has it.

Apart from how points are computed, so that who only reads them (the report) starts without torch and scikit-learn.
"""

from __future__ import annotations

from neurofm.settings import Settings

SCRATCH = "neurofm-scratch"
"""Our network with random weights and without its core: what pretraining has to beat."""
NETWORK = "neurofm-network"
"""Our pretrained network's latents alone, without the components of what its core sees."""


class FewShotRow(Settings):
    """One point. The file is a list of them, empty where `evaluate.few_shot` is false; the CSV has the same columns."""

    dataset: str
    modality: str
    task: str
    """``decoding:<target>``, ``classification:<target>`` or ``trait:<attribute>``, as in the scoreboard."""
    metric: str
    """``R2``, ``balanced_accuracy``, ``auc`` or ``r``; all are better when higher."""
    model: str
    """Whose features: ``neurofm``, `NETWORK`, `SCRATCH`, or plain ones of the task: ``counts``, ``signal``, ``power``,
    ``band_power``, and of traits those of the scoreboard. There is no null: it is 0.5 (accuracy, AUC) and 0 (R2, r)."""
    protocol: str
    """What reads them out: ``linear_probe`` or ``knn``; or ``fine_tune`` or ``lora``, where the network learns itself
    (`evaluate.few_shot_steps`)."""
    labels: str
    """``1 %``, ``5 %``, ``10 %``, ``50 %`` or ``100 %`` of what could be labelled, or ``3 per group``."""
    share: float | None
    """The same as a number: 0.01 to 1; null where examples per group were asked for."""
    examples: int | None
    """1, 2, 3 or 5 per group; null where a share was asked for."""
    shown: float
    """How many labels that was: windows (classification, decoding) or people (traits); mean over folds and seeds."""
    seeds: int
    """Draws of who or what is labelled; the value is the mean over them."""
    value: float
    ci_low: float
    ci_high: float
    """95 %, over seeds and `ci_unit` drawn anew together."""
    ci_unit: str
    """``subject`` or ``time block``."""
    n: int
    """How many of them there are."""
    difference_to_scratch: float | None
    """Value minus that of `SCRATCH` with the same protocol, labels and seeds; null for `SCRATCH` itself."""
    difference_ci_low: float | None
    difference_ci_high: float | None
    """95 % of the difference, paired over seeds and units."""
    leak: str = ""
    """As `neurofm.evaluation.row.Row.leak`: what was learned from of what is scored; nothing if empty."""
