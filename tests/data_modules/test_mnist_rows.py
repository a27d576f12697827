import torch

from prunekit.data_modules.mnist import Mnist
from prunekit.data_modules.mnist_rows import MnistRows


def test_rows_are_mnists_own_images_and_scoring_takes_the_first_of_them(real_data, tmp_path):
    ways = {"data_dir": str(real_data), "cache_dir": str(tmp_path), "batch_size": 100, "validation": 0.1, "seed": 0}
    data, images = MnistRows(**ways, eval_batch_size=500, scoring=1200), Mnist(**ways)
    assert data.fingerprint() == images.fingerprint()
    for each in (data, images):
        each.setup()
    batches, every = list(data.scoring_dataloader()), list(images.scoring_dataloader())
    assert [tuple(x.shape) for x, _ in batches] == [(500, 28, 28), (500, 28, 28), (200, 28, 28)]
    assert torch.equal(torch.cat([x for x, _ in batches]), torch.cat([x for x, _ in every])[:1200])
    assert len(data.scoring_dataloader().rows()) == 1200
    assert data.model_arguments()["inputs"] == 28
