"""Benchmarks that need another machine still run here, on tiny sizes."""

import gpu


def test_the_one_of_gpus_measures_every_row(capsys):
    assert gpu.main(["--trial"]) == 0
    table = capsys.readouterr().out
    assert "16 wide, 2 layers, with pair biases" in table
    assert "prediction, Model 2" in table
