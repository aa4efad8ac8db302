"""Reads records through PyTorch's DataLoader or MosaicML's streaming, a slice of time at a time.

Arguments: the reader, an empty folder, bytes of a record, records, the order. Writes the records there
in the reader's own format and says `ready`; then each line of stdin is a number of seconds to
read for, answered by the records that came and the seconds that it took.
"""

import os
import sys
import time

import torch
from torch.utils.data import DataLoader, Dataset

BATCH = 256


class Flat(Dataset):
    """Records one behind the other in a file."""

    def __init__(self, path, size, count):
        self.path, self.size, self.count, self.file = path, size, count, None

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self.file is None:
            self.file = os.open(self.path, os.O_RDONLY)
        return torch.frombuffer(
            bytearray(os.pread(self.file, self.size, index * self.size)), dtype=torch.uint8
        )


def flat(folder, size, count, order):
    path = os.path.join(folder, "records")
    with open(path, "wb") as file:
        for _ in range(count):
            file.write(b"\x01" * size)
    dataset = Flat(path, size, count)
    return lambda workers: DataLoader(
        dataset,
        batch_size=BATCH,
        shuffle=order == "shuffled",
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def streamed(folder, size, count, order):
    from streaming import MDSWriter, StreamingDataset

    with MDSWriter(out=folder, columns={"record": "bytes"}) as writer:
        for _ in range(count):
            writer.write({"record": b"\x01" * size})
    shuffle = order == "shuffled"

    def loader(workers):
        dataset = StreamingDataset(local=folder, shuffle=shuffle, shuffle_seed=1, batch_size=BATCH)
        return DataLoader(
            dataset,
            batch_size=BATCH,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=lambda samples: [sample["record"] for sample in samples],
        )

    return loader


def forever(loader):
    while True:
        yield from loader


def read(batches, seconds, size):
    began, records = time.monotonic(), 0
    while True:
        batch = next(batches)
        if len(batch[0]) != size:
            sys.exit(f"a record of {len(batch[0])} bytes")
        records += len(batch)
        elapsed = time.monotonic() - began
        if elapsed >= seconds:
            return records, elapsed


def main():
    reader, folder, size, count, order = sys.argv[1:]
    size, count = int(size), int(count)
    torch.set_num_threads(1)
    made = {"torch": flat, "mosaicml": streamed}[reader](folder, size, count, order)
    # In this process or in one beside it, whichever is faster here.
    speeds = []
    for workers in (0, 1):
        batches = forever(made(workers))
        read(batches, 0.5, size)
        records, elapsed = read(batches, 1.0, size)
        speeds.append((records / elapsed, workers))
    workers = max(speeds)[1]
    batches = forever(made(workers))
    print("ready", torch.__version__, workers, flush=True)
    for line in sys.stdin:
        print(*read(batches, float(line), size), flush=True)


main()
