import numpy as np
import torch

from prunekit.figures.evidence import COLOURS, draw_classes, draw_decisions, draw_faithfulness
from prunekit.regions.explanation import Decision, Region
from prunekit.regions.faithfulness import Curves

IMAGE = np.pad(np.ones((2, 3)), 2)


def decision(true=1, predicted=1):
    regions = [Region(neuron, 1.0 - neuron, IMAGE > 0) for neuron in range(len(COLOURS))]
    return Decision(IMAGE, true, predicted, 2, (0.9, 0.1), regions, (IMAGE, -IMAGE))


def texts(figure):
    found = [axes.get_title() for axes in figure.axes]
    return found + [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_decision_is_told_in_words():
    figure = draw_decisions([decision(), decision(3, 4), decision()], "Why")
    said = texts(figure)
    assert {"a 1", "a 3", "is it a 1?  90%", "taken for a 4  90%", "is it a 2?  10%", "1. neuron 0\n    +1.0"} <= set(
        said
    )
    colours = {axes.get_title(): axes.title.get_color() for axes in figure.axes}
    assert (colours["is it a 1?  90%"], colours["taken for a 4  90%"]) == ("black", "C3")
    assert figure.get_suptitle().startswith("Why\n")


def test_one_decision_and_a_black_image_can_be_drawn():
    black = decision()._replace(image=np.zeros((6, 7)), evidence=(np.zeros((6, 7)), np.zeros((6, 7))))
    assert len(draw_decisions([black], "").axes) == 6  # five panels and the bar


def test_regions_are_coloured_where_they_are_and_the_rest_stays_grey():
    figure = draw_decisions([decision()._replace(regions=[Region(0, 1.0, IMAGE > 0)])], "")
    shown = np.asarray(figure.axes[1].images[0].get_array())
    inside, outside = shown[IMAGE > 0], shown[IMAGE == 0]
    assert (np.ptp(inside, axis=1) > 0.3).all()
    assert (np.ptp(outside, axis=1) == 0).all()


def test_classes_of_colour_images_in_several_lines():
    means, evidence = np.random.default_rng(0).random((12, 6, 7, 3)), np.zeros((12, 6, 7))
    figure = draw_classes(means, evidence, [f"c{number}" for number in range(12)], "Classes")
    assert {"the mean c0", "for a c11"} <= set(texts(figure))


def test_curves_say_their_areas():
    curve = Curves(torch.linspace(1, 0, 5), torch.linspace(0, 0.5, 5))
    figure = draw_faithfulness({"dense": {"region evidence": curve, "random": curve}})
    left, right = ([text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes)
    assert left == ["region evidence: area 50.0%", "random: area 50.0%"]
    assert right == ["region evidence: area 25.0%", "random: area 25.0%"]
    assert [line.get_linestyle() for line in figure.axes[0].lines] == ["-", ":"]
