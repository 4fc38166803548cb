"""Layers, loss, optimizer, EMA and warp with kernels for all cores of the CPU.

Each NAME.py is the Python side of NAME.h, which begins with the plain formula, or says where it is.
"""

from stages.shared.network.kernels.conv import Conv
from stages.shared.network.kernels.conv_norm import conv_norm
from stages.shared.network.kernels.ema import update_ema
from stages.shared.network.kernels.linear import Linear
from stages.shared.network.kernels.loss import cross_entropy
from stages.shared.network.kernels.norm import BatchNorm
from stages.shared.network.kernels.sgd import SGD
from stages.shared.network.kernels.warp import warp

__all__ = ["SGD", "BatchNorm", "Conv", "Linear", "conv_norm", "cross_entropy", "update_ema", "warp"]
