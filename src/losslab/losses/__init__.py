"""The contract of a loss, and the losses that torch.nn lacks or has in a form that overflows or forbids vmap.

`contract` holds what losslab asks of a loss; the other modules hold the losses of each task.
"""

from losslab.losses.contract import Loss, RowLoss, Sum
from losslab.losses.multi_label import (
    AsymmetricLoss,
    BCEProbabilityLoss,
    BCEWithLogitsLoss,
    BinaryFocalLoss,
    HingeLoss,
    MultiLabelMarginLoss,
    SoftF1Loss,
    SoftMarginLoss,
    TverskyLoss,
)
from losslab.losses.regression import (
    CosineSimilarityLoss,
    GaussianNLLLoss,
    LogCoshLoss,
    MAPELoss,
    MSLELoss,
    QuantileLoss,
    RMSLELoss,
    SMAPELoss,
    SumOfSquaresLoss,
    TweedieLoss,
)
from losslab.losses.single_label import (
    AsymmetricSingleLabelLoss,
    CategoricalHingeLoss,
    FocalLoss,
    GeneralizedCrossEntropyLoss,
    KLDivLoss,
    MultiMarginLoss,
    PolyLoss,
    SquareLoss,
)

__all__ = [
    "AsymmetricLoss",
    "AsymmetricSingleLabelLoss",
    "BCEProbabilityLoss",
    "BCEWithLogitsLoss",
    "BinaryFocalLoss",
    "CategoricalHingeLoss",
    "CosineSimilarityLoss",
    "FocalLoss",
    "GaussianNLLLoss",
    "GeneralizedCrossEntropyLoss",
    "HingeLoss",
    "KLDivLoss",
    "LogCoshLoss",
    "Loss",
    "MAPELoss",
    "MSLELoss",
    "MultiLabelMarginLoss",
    "MultiMarginLoss",
    "PolyLoss",
    "QuantileLoss",
    "RMSLELoss",
    "RowLoss",
    "SMAPELoss",
    "SoftF1Loss",
    "SoftMarginLoss",
    "SquareLoss",
    "Sum",
    "SumOfSquaresLoss",
    "TverskyLoss",
    "TweedieLoss",
]
