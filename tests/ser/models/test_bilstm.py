"""The BiLSTM is torch's own, layer for layer."""

import pytest
import torch

from ser.models import BiLstm


@pytest.fixture(autouse=True)
def one_thread():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def torch_lstm(model: BiLstm) -> torch.nn.LSTM:
    units = model.embedding_size // 2
    lstm = torch.nn.LSTM(64, units, num_layers=3, batch_first=True, bidirectional=True)
    state = {}
    for layers, ending in ((model.onward, ""), (model.reverse, "_reverse")):
        for number, layer in enumerate(layers):
            state |= {key.replace("_l0", f"_l{number}{ending}"): value for key, value in layer.state_dict().items()}
    lstm.load_state_dict(state)
    return lstm


def test_it_is_three_bidirectional_layers_of_150_units_on_normalised_bins_and_their_mean_over_time():
    model = BiLstm(4).eval()
    model.bn0.running_mean.uniform_(-50, -20)
    model.bn0.running_var.uniform_(50, 200)
    x = torch.randn(2, 30, 64) * 10 - 30
    normalised = (x - model.bn0.running_mean) / (model.bn0.running_var + 1e-5).sqrt()
    output, _ = torch_lstm(model)(normalised)
    assert output.shape == (2, 30, 300)
    torch.testing.assert_close(model.embed(x), output.mean(dim=1), rtol=1e-4, atol=1e-5)


def test_with_lengths_it_is_torchs_lstm_on_packed_sequences():
    model = BiLstm(4, 0.1).eval()
    x, lengths = torch.randn(3, 20, 64), torch.tensor([7, 20, 1])
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        model.bn0(x.transpose(1, 2)).transpose(1, 2), lengths, batch_first=True, enforce_sorted=False
    )
    output, _ = torch.nn.utils.rnn.pad_packed_sequence(torch_lstm(model)(packed)[0], batch_first=True)
    torch.testing.assert_close(model.embed(x, lengths), output.sum(dim=1) / lengths[:, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "units"), [(1.0, 150), (2.0, 300), (0.1, 15), (0.001, 1)])
def test_width_scales_the_units(width, units):
    with torch.device("meta"):
        model = BiLstm(4, width)
    assert {layer.hidden_size for layers in (model.onward, model.reverse) for layer in layers} == {units}
    assert model.embedding_size == 2 * units
