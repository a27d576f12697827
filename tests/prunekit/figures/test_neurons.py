import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from prunekit.figures.neurons import draw_kept, draw_rates, draw_regions, draw_weights, weight_colours


def test_colours_say_sign_magnitude_and_removal():
    weights = np.array([[[3.0, 1.0, 0.0, -1.0, -3.0, 2.0]]])
    kept = np.array([[[True, True, True, True, True, False]]])
    image = weight_colours(weights, kept, scale=3.0)[0, 0]
    red, blue = image[:, 0], image[:, 2]
    assert (red[:3] > blue[:3]).all()
    assert (blue[3:5] > red[3:5]).all()
    assert red[0] > red[1] > red[2] > 0.2  # a kept zero is dark red, not black
    assert blue[4] > blue[3] > 0.2
    assert image[5].tolist() == [0, 0, 0]
    assert (weight_colours(weights * 9, kept, scale=3.0) <= 1).all()


def test_every_picture_has_a_title_and_a_tile_for_each_neuron():
    rng = np.random.default_rng(0)
    weights, before = rng.normal(size=(7, 4, 5)), rng.random((7, 4, 5)) > 0.3
    kept = before & (rng.random((7, 4, 5)) > 0.5)
    kept[3] = False
    labels = np.cumsum(before).reshape(before.shape) * before
    for figure in (
        draw_weights(weights, kept, "Title"),
        draw_regions(labels, kept, "Title"),
        draw_kept(kept, before, "Title"),
    ):
        axes = figure.axes[0]
        assert axes.get_title().startswith("Title\none tile = one neuron")
        assert [text.get_text().split()[0] for text in axes.texts] == [str(neuron) for neuron in range(7)]
        assert axes.texts[3].get_text().endswith("100%")


def test_the_histogram_names_both_ways_of_counting():
    kept = np.zeros((10, 2, 5), dtype=bool)
    kept[:4] = True
    figure = draw_rates(kept, np.ones_like(kept), "Title")
    assert [axes.get_title() for axes in figure.axes] == [
        "counted of all weights",
        "counted of the weights that the L2 mask had left",
    ]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["at most 40 % removed: 40% of neurons", "at least 90 % removed: 60% of neurons"]
    assert len(draw_rates(kept, None, "Title").axes) == 1


def test_nothing_left_can_be_drawn():
    nothing = np.zeros((2, 3, 3), dtype=bool)
    assert draw_weights(np.zeros((2, 3, 3)), nothing, "Title").axes
    assert draw_regions(nothing.astype(np.int64), nothing, "Title").axes


def test_titles_and_legends_are_within_the_picture():
    kept = np.random.default_rng(0).random((100, 28, 28)) > 0.5
    title = "Regions of weights after region_mean_mask, round 1 (epoch 45): 70.2% of layers.hidden1.weight removed"
    for figure in (
        draw_weights(kept * 1.0, kept, title),
        draw_regions(kept.astype(np.int64), kept, title),
        draw_kept(kept, kept, title),
    ):
        FigureCanvasAgg(figure).draw()
        axes = figure.axes[0]
        for part in (axes.title, *figure.legends):
            box = part.get_window_extent()
            assert box.y0 >= 0
            assert box.y1 <= figure.bbox.height
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.width
