import numpy as np

from genfast.training.order import Order, stream


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order():
    order = Order(12, 4, 3, seed=0)
    epochs = [np.concatenate([order.batch(3 * epoch + i) for i in range(3)]) for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert list(epochs[0]) != list(epochs[1])


def test_a_batch_depends_on_seed_and_step_alone():
    forward, late = Order(100, 8, 12, seed=3), Order(100, 8, 12, seed=3)
    batches = [forward.batch(step) for step in range(30)]
    assert np.array_equal(late.batch(29), batches[29])
    assert np.array_equal(late.batch(13), batches[13])  # backwards, over an epoch's border
    assert not np.array_equal(Order(100, 8, 12, seed=4).batch(29), batches[29])


def test_what_is_left_over_differs_by_epoch():
    order = Order(11, 4, 2, seed=0)
    left = [set(range(11)) - set(order.batch(2 * e)) - set(order.batch(2 * e + 1)) for e in range(6)]
    assert {len(images) for images in left} == {3}
    assert len({frozenset(images) for images in left}) > 1


def test_fewer_images_than_a_batch():
    assert sorted(Order(3, 8, 1, seed=0).batch(5)) == [0, 1, 2]


def test_streams_differ():
    assert len({stream(a, b) for a in range(5) for b in range(5)}) == 25
    assert stream(2**63, 1) != stream(1, 2**63)
