"""A rank of a distributed training: python torch_rank.py FOLDER KEYSPACE WORKERS, with RANK and WORLD_SIZE set.

It trains two epochs with DistributedDataParallel, leaves the third one early on rank 1, and writes what it has seen
into FOLDER/rank-N.json.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from tfx_cassandra.components import CassandraConnection
from tfx_cassandra.components.errors import CoverageError
from tfx_cassandra.components.torch_dataset import CassandraIterableDataset

EPOCHS = 2


def main(folder: str, keyspace: str, workers: str) -> None:
    rank, ranks = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    distributed.init_process_group('gloo', f'file://{folder}/rendezvous', rank=rank, world_size=ranks)
    connection = dataclasses.replace(CassandraConnection.from_env(), keyspace=keyspace)
    dataset = CassandraIterableDataset(connection, 'points', batch_rows=64, shuffle_rows=300)
    torch.manual_seed(rank)  # other weights in each rank, which DistributedDataParallel makes equal
    model = DistributedDataParallel(nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    found: list[dict[str, Any]] = []
    for epoch in range(EPOCHS):
        dataset.set_epoch(epoch)
        keys = []
        with Join([model]):  # ranks may have different numbers of batches
            for batch in DataLoader(dataset, batch_size=None, num_workers=int(workers)):
                keys += zip(batch['k'].tolist(), batch['c'].tolist(), strict=True)
                loss = model(batch['x'].float()[:, None]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        found.append({'keys': keys, 'coverage': dataclasses.asdict(dataset.coverage())})
    dataset.set_epoch(EPOCHS)
    for _ in dataset:
        if rank == 1:
            break
    error = ''
    try:
        dataset.coverage()
    except CoverageError as caught:
        error = str(caught)
    weights = [value.tolist() for value in model.state_dict().values()]
    pathlib.Path(folder, f'rank-{rank}.json').write_text(
        json.dumps({'epochs': found, 'weights': weights, 'left early': error})
    )
    distributed.destroy_process_group()


if __name__ == '__main__':
    main(*sys.argv[1:])
