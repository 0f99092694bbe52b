"""Residual blocks, and MainFeatNet, the feature extractor of DetNet (Zhou et al. 2021, Sec. 3.2.1; He et al. 2016).

The paper says "ResNet alike". Here the stages go down to an eighth of the map's own resolution and are brought back up: a cell of
the map must know where the pelvis is, however far away, and the coarse stages see the whole person at a fraction of the cost of
deep stages at full resolution.
"""

import torch
from torch import nn
from torch.nn import functional


class ConvNorm(nn.Sequential):
    """A convolution without bias and a batch normalisation, which inference folds into it."""

    def __init__(self, channels_in, channels_out, kernel=3, stride=1):
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(channels_out)
        )


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions about a short cut, which is a mean over `stride` and a 1 x 1 convolution where the shape changes.

    (A 1 x 1 convolution with a stride would look at a quarter of the cells, and its gradient crashes in torch 2.13 on some CPUs.)
    """

    def __init__(self, channels_in, channels_out, stride=1):
        super().__init__()
        self.first = ConvNorm(channels_in, channels_out, stride=stride)
        self.second = ConvNorm(channels_out, channels_out)
        shrink = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        widen = ConvNorm(channels_in, channels_out, kernel=1) if channels_in != channels_out else nn.Identity()
        self.shortcut = nn.Sequential(shrink, widen)

    def forward(self, features):
        hidden = functional.relu(self.first(features))
        return functional.relu(self.second(hidden) + self.shortcut(features))


def stage(channels_in, channels_out, blocks, stride=2):
    """`blocks` residual blocks, of which the first changes channels and resolution."""
    return nn.Sequential(
        ResidualBlock(channels_in, channels_out, stride),
        *(ResidualBlock(channels_out, channels_out) for _ in range(blocks - 1)),
    )


class MainFeatNet(nn.Module):
    """The low-resolution image I [B, 3, 256, 192] to the main features F [B, C, 64, 48]."""

    def __init__(self, stem, widths, blocks, features):
        """stem: channels at half of I's resolution; widths, blocks [4]: of the stages at 1/4, 1/8, 1/16 and 1/32; features: C."""
        super().__init__()
        self.stem = ConvNorm(3, stem, kernel=7, stride=2)
        channels = (stem, *widths)
        self.stages = nn.ModuleList(stage(*pair, count) for *pair, count in zip(channels, channels[1:], blocks))
        self.laterals = nn.ModuleList(nn.Conv2d(width, features, 1) for width in widths)
        self.smooth = ConvNorm(features, features)

    def forward(self, image):
        hidden = functional.relu(self.stem(image))  # [B, stem, 128, 96]
        levels = []
        for layers in self.stages:
            hidden = layers(hidden)
            levels.append(hidden)  # [B, widths[i], 64 / 2^i, 48 / 2^i]
        merged = self.laterals[-1](levels[-1])
        for lateral, level in zip(reversed(self.laterals[:-1]), reversed(levels[:-1])):
            merged = lateral(level) + functional.interpolate(merged, scale_factor=2.0, mode="nearest")
        return functional.relu(self.smooth(merged))  # [B, C, 64, 48]


class SuppFeatNet(nn.Module):
    """Hand images [N, 3, 128, 128] to supp-features [N, C, 32, 32]: shallow, with 8 residual blocks (Sec. 3.2.3).

    It is made for left hands. `DetNet` gives it right hands flipped, and flips their features back.
    """

    def __init__(self, stem, features):
        super().__init__()
        self.stem = ConvNorm(3, stem, kernel=5, stride=2)
        self.fine = stage(stem, stem, 2, stride=1)  # where fingers' edges still are: [N, stem, 64, 64]
        self.coarse = stage(stem, features, 6)  # [N, C, 32, 32]

    def forward(self, images):
        return self.coarse(self.fine(functional.relu(self.stem(images))))


def fold_batch_norms(network):
    """The same network in place, in eval mode, with each `ConvNorm`'s normalisation folded into its convolution."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module[0] = torch.nn.utils.fusion.fuse_conv_bn_eval(module[0].eval(), module[1].eval())
            module[1] = nn.Identity()
    return network
