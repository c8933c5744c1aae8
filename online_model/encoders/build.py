"""The encoder that the settings name."""

import torch
from torch import Generator

from online_model.config import ModelConfig
from online_model.encoders.attention import AttentionEncoder
from online_model.encoders.base import Encoder
from online_model.encoders.convolution import ConvolutionEncoder
from online_model.encoders.gru import GRUEncoder
from online_model.encoders.lstm import LSTMEncoder
from online_model.encoders.masked_transformer import MaskedTransformerEncoder
from online_model.encoders.rnn import RNNEncoder
from online_model.encoders.transformer import TransformerEncoder


def build_encoder(config: ModelConfig, device: torch.device, generator: Generator | None = None) -> Encoder:
    """Return a new encoder; without a generator its weights are zeros, to be filled."""
    hidden, skip = config.hidden, config.skip
    match config.encoder:
        case "gru":
            return GRUEncoder(hidden, skip, device, generator)
        case "lstm":
            return LSTMEncoder(hidden, skip, device, generator)
        case "rnn":
            return RNNEncoder(hidden, skip, device, generator)
        case "transformer":
            return TransformerEncoder(hidden, skip, config.window, device, generator)
        case "masked-transformer":
            return MaskedTransformerEncoder(hidden, skip, config.window, device, generator)
        case "convolution":
            return ConvolutionEncoder(hidden, skip, device, generator)
        case "attention":
            return AttentionEncoder(hidden, skip, device, generator)
