"""The methods people would otherwise use, on the same spikes and the same partitions as ours.

    compare.py    the program: caches, a worker for what needs PyTorch, progress, tables (`make compare`)
    jobs.py       what is to be computed: settings, partitions, seeds, and where results go
    tasks.py      results as runs of experiments and of tuning
    worker.py     computes results, one after the other, each written whole; runs in either environment
    inputs.py     events -> counts in time bins
    logistic.py   logistic regression; needs what data_prep needs
    networks.py   GRU, LSTM, snnTorch, norse; the only module that imports PyTorch, so it runs in .venv-bench
    methods.toml  settings chosen on the training part
    trials.toml   settings tried for that
"""
