"""attend: attention of single queries, each over the keys that it may see.

    out[q] = sum over j of softmax_j(scale * query[q] . key[q, j] + bias[q, j]) * value[q, j]         # in each head

    query [Q, B, heads * depth], key [Q, J, B, heads * depth], value [Q, J, B, heads * width] -> [Q, B, heads * width]

One line of PyTorch: ``F.scaled_dot_product_attention(query, key, value, mask)``, but that a query which sees nothing
gives zeros. Equation 1 of Vaswani et al. 2017, Attention Is All You Need. It serves the sampling engines, in which
keys and values lie in a cache and the queries come one after the other, and is no operator of its own.
"""
