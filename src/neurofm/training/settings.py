"""`pretrain` in params.yaml."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from neurofm.model.settings import ModelSettings
from neurofm.recording import Modality
from neurofm.settings import Settings
from neurofm.windows.schedule import PoolSettings


class Shares(Settings):
    """Share of training steps per modality; modalities without data are left out and the rest scaled up."""

    spikes: float = Field(ge=0)
    calcium: float = Field(ge=0)
    miniscope: float = Field(ge=0)
    fmri: float = Field(ge=0)
    eeg: float = Field(ge=0)
    meg: float = Field(default=0.15, ge=0, exclude_if=lambda share: share == 0.15)

    @model_validator(mode="after")
    def _some(self) -> Self:
        # The default of MEG would hide that all shares that were given are 0.
        if not any(getattr(self, name) for name in self.model_fields_set):
            msg = "every share is 0: nothing would be learned from"
            raise ValueError(msg)
        return self

    def of(self) -> dict[Modality, float]:
        """Share per modality."""
        return {modality: getattr(self, modality.value) for modality in Modality}


CHANNELS: Final = "channels"
"""The kind of mask that hides whole channels."""
MaskKind = Literal["channels", "patches", "block", "region", "forward"]
"""Whole channels; single patches; all channels for a while; the channels around one of them; the window's end."""
_WHOLE: dict[MaskKind, float] = {CHANNELS: 1.0}


class MaskShares(Settings):
    """How often steps hide what, in any unit, for the modalities whose patches can be filled in.

    Of other modalities whole channels are hidden.
    """

    fmri: dict[MaskKind, Annotated[float, Field(ge=0)]] = _WHOLE
    eeg: dict[MaskKind, Annotated[float, Field(ge=0)]] = _WHOLE
    meg: dict[MaskKind, Annotated[float, Field(ge=0)]] = Field(default=_WHOLE, exclude_if=lambda kinds: kinds == _WHOLE)
    windows: int = Field(default=8, gt=0)
    """Most windows of a step that hides other than whole channels: each says more, and takes longer."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        for name in ("fmri", "eeg", "meg"):
            if not sum(getattr(self, name).values()):
                msg = f"{name}: no kind of mask has a share above 0"
                raise ValueError(msg)
        return self

    def of(self, modality: Modality) -> dict[MaskKind, float]:
        """Shares above 0 of a modality."""
        shares: dict[MaskKind, float] = getattr(self, modality.value, _WHOLE)
        return {kind: share for kind, share in shares.items() if share > 0}

    def patches_of(self, modality: Modality) -> tuple[MaskKind, ...]:
        """Kinds that hide other than whole channels."""
        return tuple(kind for kind in self.of(modality) if kind != CHANNELS)


class CoreGrid(Settings):
    """What the linear core is chosen from, on validation data, per set of channels."""

    smoothing_samples: tuple[float, ...] = Field(min_length=1)
    """SDs of Gaussians in time. The core sees every channel at up to three of these scales; 0 does not smooth."""
    ridge: tuple[float, ...] = Field(min_length=1)
    """Penalties in units of the mean variance of the visible channels."""
    prior_samples: tuple[float, ...] = Field(min_length=1)
    """How many samples of the recording's own weigh as much as other subjects; 0 uses no prior."""
    rate_floors: tuple[float, ...] = Field(min_length=1)
    """Smallest rate that the core may predict, as a share of the mean rate (spikes only)."""
    most_channels: int = Field(default=256, ge=8)
    """Settings of recordings of more channels are chosen on so many of them: the cost grows with their third power."""
    bank: bool = True
    """Whether a bank of low-rank solutions may take the linear core's place for spikes, calcium and Miniscope, where it
    predicts validation data better."""
    skip: bool = Field(default=True, exclude_if=bool)
    """Whether the network corrects a core's estimate; false lets it predict by itself, from the mean on, which shows
    what the core is worth. Written down only where it is false."""

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        for name, values, least in (
            ("smoothing_samples", self.smoothing_samples, 0.0),
            ("prior_samples", self.prior_samples, 0.0),
            ("ridge", self.ridge, 1e-12),
            ("rate_floors", self.rate_floors, 1e-6),
        ):
            if min(values) < least:
                msg = f"{name} {min(values)} is below {least}"
                raise ValueError(msg)
        return self


class ShortCalibrations(Settings):
    """How often training knows a recording only from a short piece of it, as a new recording is known.

    Of spikes, calcium and Miniscope: nobody else has their channels, so that all that is known of them is the piece.
    """

    share: float = Field(default=0.0, ge=0, le=1)
    """Of the steps that hide whole channels."""
    seconds: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(8.0, 20.0, 60.0), min_length=1)
    """Valid seconds of a piece, each as often; of a recording that has less all is looked at."""


class SafeguardSettings(Settings):
    """What a training does about losses that are not numbers, or explode."""

    exploding_loss: float = Field(default=1e4, gt=1)
    """A step is skipped whose loss is more than this many times what it usually is (`usual_loss`: its mean between the
    two latest validations, at most that of predicting the mean), or not a number."""
    skips: int = Field(default=5, gt=0)
    """So many skipped steps in a row send the training back to its last kept state."""
    rollbacks: int = Field(default=3, ge=0)
    """So often; then it ends."""
    rollback_rate: float = Field(default=0.5, gt=0, lt=1)
    """What the learning rate is multiplied with each time."""


Mode = Literal["full", "lora", "head", "unit"]
"""Which weights learn on: all; low-rank additions to every matrix but the heads, and the heads; the heads alone; the
learned terms of single channels alone, where a network has them (few-shot, for a new recording)."""


class FinetuneSettings(Settings):
    """One entry of `finetune` in params.yaml; what it does not say is as `pretrain` says."""

    folds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    """Whose models learn on, each from what its own fold may learn from."""
    datasets: tuple[str, ...] = Field(min_length=1)
    """What they learn from."""
    mode: Mode
    rank: int = Field(default=4, gt=0)
    """Of the additions of `lora`."""
    steps: int = Field(gt=0)
    learning_rate: float = Field(gt=0)


class PretrainSettings(Settings):
    """`pretrain` in params.yaml."""

    seed: int = Field(ge=0)
    steps: int = Field(ge=0)
    """Most steps; early stopping may end sooner, and 0 leaves the linear core alone."""
    batch_windows: int = Field(gt=0)
    """Of one draw, which is one recording."""
    accumulate: int = Field(default=1, gt=0)
    """Draws whose mean gradient makes one step; each is of a modality and a recording of its own."""
    slices: int = Field(default=1, gt=0)
    """Parts of a draw's windows whose gradients are taken apart and added up in their order, so that one process comes
    to the same bits as several that share the parts out. As many processes as slices can take part."""
    precision: Literal["32", "bf16-mixed"] = "32"
    """What the network computes in as it learns: float32, or bfloat16 where `torch.autocast` deems that safe. Weights,
    links, losses and the linear core keep their precision, and validation is as exact as prediction is."""
    compile: bool = False
    """Let `torch.compile` make the network's code; without a compiler it says so and goes on without. Its sums are
    rounded otherwise, which is why params.yaml says it."""
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup_steps: int = Field(ge=0)
    hidden_fraction_min: float = Field(gt=0, lt=1)
    hidden_fraction_max: float = Field(gt=0, lt=1)
    masks: MaskShares = Field(default_factory=MaskShares)
    """What steps hide."""
    paired: float = Field(default=0.0, ge=0, le=1, exclude_if=lambda share: share == 0.0)
    """Share of the steps of a recording that see what another modality recorded at the same time, too
    (`neurofm.training.paired`); where there are no such recordings nothing changes."""
    most_targets: int = Field(default=128, gt=0)
    """Of more hidden channels than this only so many are asked for in a step: the network relates each of them to each
    visible one, so that steps of large populations would take seconds."""
    episodes: int = Field(ge=2)
    """Chunks of each recording's train segments that take turns as targets."""
    short_calibrations: ShortCalibrations = Field(
        default_factory=ShortCalibrations, exclude_if=lambda short: short.share == 0.0
    )
    """Steps that know little of their recording (`neurofm.training.short`)."""
    shares: Shares
    dataset_shares: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """How the steps of a modality are shared out among its datasets, by id, in any unit. A dataset that is not named
    weighs as much as the mean of those that are; where none is, recordings are drawn whatever their dataset."""
    pool: PoolSettings | None = None
    """Draw from a rotating part of the recordings; null draws from all of them at every step."""
    bfloat16: bool = False
    """Keep standardised samples as bfloat16 rather than as stored: for int16 the same memory, for counts twice."""
    most_damaged: float = Field(default=0.001, ge=0, lt=1)
    """Share of all samples that may be damaged: they are skipped and counted, and more ends the training."""
    validate_every_steps: int = Field(gt=0)
    validation_windows: int = Field(gt=0)
    """Most windows per recording and mask that are validated on, spread evenly."""
    patience: int = Field(gt=0)
    """Validations without a new best before training stops."""
    max_hours: Annotated[float, Field(gt=0)] | None = None
    """Training of a fold stops at the first validation after so many hours, and keeps the best until then; null is no
    limit. A fold that it stops depends on the machine's speed, so that it is not repeatable to the byte."""
    max_cost: Annotated[float, Field(gt=0)] | None = None
    """As `max_hours`, in money: at `price_per_hour` of site.yaml, shared by the folds that train side by side."""
    phases: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """How the budget is parted along the steps, by name and in any unit, as ``{broad: 60, long: 30, last: 10}``: what
    each phase has spent, will take and may take is said at every validation. It changes nothing in the training."""
    safeguards: SafeguardSettings = Field(default_factory=SafeguardSettings)
    ema_decay: float = Field(ge=0, lt=1)
    """Of the running average of weights that is validated and kept."""
    mask_groups: int = Field(ge=2)
    """Validation hides each of this many groups of channels in turn."""
    residual_gains: tuple[float, ...] = Field(min_length=1)
    """What the network's residual may be multiplied with, chosen per modality and kind of mask on validation data; 0
    is always among the choices."""
    core: CoreGrid
    model: ModelSettings

    def key(self) -> str:
        """Return all that a run's result depends on, unless a limit on time or money stops it: with more it goes on."""
        return self.model_dump_json(exclude={"max_hours", "max_cost", "phases"})

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.hidden_fraction_min > self.hidden_fraction_max:
            msg = f"hidden_fraction_min {self.hidden_fraction_min} exceeds hidden_fraction_max"
            raise ValueError(msg)
        if self.paired and not self.model.latents:
            msg = f"paired {self.paired:g} contradicts model.latents 0: latents are what several modalities meet in"
            raise ValueError(msg)
        if self.slices > self.batch_windows:
            msg = f"slices {self.slices} exceeds batch_windows {self.batch_windows}: a part would be empty"
            raise ValueError(msg)
        return self
