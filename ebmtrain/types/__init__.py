"""Protocols and data types that the packages of ebmtrain share. Imports nothing of ebmtrain.

Conventions everywhere: p(x) = exp(-E(x) / T) / Z with T = 1 unless said otherwise, score
s(x) = -dE/dx. `batch` is the first axis; `*event` is the shape of one data point.
"""

from __future__ import annotations

from ebmtrain.types.bounds import Bounds
from ebmtrain.types.capabilities import (
    HasConflicts,
    HasSpaces,
    Ragged,
    Space,
    takes_ragged,
    takes_space,
)
from ebmtrain.types.data import (
    BaseDistribution,
    Batch,
    Dataset,
    Density,
    HasAnomalies,
    HasLabels,
    HasNames,
    HasPixels,
    HasRowNumbers,
    HasSteps,
    HasSupport,
    Labels,
    Modes,
    Region,
    Standardization,
    Support,
    check_mixture,
    labels_of,
    names_of,
    notes_of,
    origins_of,
    steps_of,
)
from ebmtrain.types.energies import (
    Affine,
    Bipartite,
    ChainKernels,
    Energy,
    HasCouplings,
    ImageEnergy,
    Joint,
    Landscape,
    LossDerivatives,
    NoiseRange,
    Normalised,
    QuadraticLoss,
    TimeConditional,
)
from ebmtrain.types.logger import Logger
from ebmtrain.types.methods import (
    DrawsPoints,
    EstimatesLogZ,
    HasEnergyRegularization,
    LearnsLogZ,
    LossOutput,
    Method,
    NeedsLabels,
    needs_labels,
)
from ebmtrain.types.ranges import (
    OF_ALL_SHARDS,
    ChainCount,
    Count,
    Decay,
    NonNegative,
    OpenUnit,
    Positive,
    Probability,
    SmallCount,
    WholeNumber,
)
from ebmtrain.types.samplers import (
    Adaptation,
    Cooling,
    HasAdaptation,
    HasClamp,
    HasJumps,
    HasStepSize,
    HasStepSizeEnd,
    HasTarget,
    HasTemperature,
    Jumps,
    ManySteps,
    S,
    Sampler,
    StepInfo,
    WrapsSampler,
)
from ebmtrain.types.state import (
    DeclaresState,
    MethodChains,
    Placement,
    StateSchema,
    Tensors,
    TrainingItems,
    method_chains,
    per_rank,
    replicated,
    schema_of,
)
