"""lstm: one LSTM cell, forward and backward, and the scan over an image that the recurrent operators share.

    i, f, o = sigmoid(i), sigmoid(f), sigmoid(o);  g = tanh(g)          # [.., 4h] in blocks i, f, g, o, as in nn.LSTM
    c = f * c_prev + i * g                                              # equation 3 of van den Oord et al. 2016,
    h = o * tanh(c)                                                     # "Pixel Recurrent Neural Networks"

reference.py   the cell in plain PyTorch, and its derivative
"""
