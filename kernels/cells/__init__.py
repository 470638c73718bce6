"""cells: a head and what is done to its result number by number, at some cells of a network.

    r_0 = head(reads)                  # a tap_gemm, a lookup, a reduce, or a copy of several pieces; or no head
    r_i = op_i(r_j or a read or a constant, ...)                                    # pointwise, registers never stored
    store some r_i where tables say

What a plan's kernel is to a GPU: one launch for many cells of many images, whose reads and stores go through tables.
"""
