"""Trains other systems on the files that ours is trained on.

`write FOLDER` makes rows of 39 categories, as libsvm's and Vowpal Wabbit's files; `ratings FOLDER` makes ratings.
`vw`, `sgd` and `surprise` train on them, and print one line of JSON: processor seconds from the file to the
model, and the held-out loss. `splits FOLDER SEED CACHE` and `mails FOLDER SEED CACHE` cut MovieLens 100k and the
mails of SpamAssassin, which were fetched before, into two parts; `svd FOLDER SEED` and `lda FOLDER SEED` learn from one.
"""

import json
import os
import random
import resource
import sys

import numpy as np

TRAIN, TEST, FIELDS, BITS = 400_000, 40_000, 39, 18
WORDS = 8_000


def processor():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def write(folder):
    random = np.random.default_rng(1)
    rows = TRAIN + TEST
    columns, score = [], np.full(rows, -1.6)
    for field in range(FIELDS):
        values = 2 << (field // 2)
        weights = random.normal(size=values) * 0.35
        token = np.minimum((values ** random.random(rows) - 1).astype(np.int64), values - 1)
        score += weights[token]
        columns.append((token * 2654435761 + field * 3928891) % (1 << BITS))
    labels = (random.random(rows) < 1 / (1 + np.exp(-score))).astype(int)
    features = np.stack(columns, 1)
    for name, first, end in [("train", 0, TRAIN), ("test", TRAIN, rows)]:
        with open(f"{folder}/{name}.svm", "w") as svm, open(f"{folder}/{name}.vw", "w") as vw:
            for label, row in zip(labels[first:end], features[first:end]):
                row = np.unique(row)
                svm.write(f"{label} " + " ".join(f"{index}:1" for index in row) + "\n")
                vw.write(f"{1 if label else -1} | " + " ".join(map(str, row)) + "\n")


def ratings(folder):
    random = np.random.default_rng(1)
    users, items, count = 2_000, 1_000, 400_000
    of_user, of_item = random.normal(size=(users, 9)) * 0.4, random.normal(size=(items, 9)) * 0.4
    user = random.integers(users, size=count)
    item = np.minimum((items ** random.random(count)).astype(int), items - 1)
    rating = 3.5 + of_user[user, 0] + of_item[item, 0] + (of_user[user, 1:] * of_item[item, 1:]).sum(1)
    rating = np.clip(rating + random.normal(size=count) * 0.5, 1, 5)
    for name, part in [("train", slice(0, count * 9 // 10)), ("test", slice(count * 9 // 10, count))]:
        with open(f"{folder}/{name}.inter", "w") as file:
            for row in zip(user[part], item[part], rating[part]):
                file.write("%d\t%d\t%.2f\n" % row)


def vw(folder):
    import vowpalwabbit
    from sklearn.metrics import log_loss

    began = processor()
    options = f"-d {folder}/train.vw -b {BITS} --loss_function logistic --link logistic --holdout_off --quiet"
    model = vowpalwabbit.Workspace(f"{options} -f {folder}/model.vw")
    model.finish()
    took = processor() - began
    model = vowpalwabbit.Workspace(f"-i {folder}/model.vw -t --link logistic --quiet")
    rows = list(open(f"{folder}/test.vw"))
    return took, log_loss([row[0] != "-" for row in rows], [model.predict(row) for row in rows])


def sgd(folder):
    from sklearn.datasets import load_svmlight_file
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import log_loss

    def load(name):
        rows, labels = load_svmlight_file(f"{folder}/{name}.svm", n_features=1 << BITS, zero_based=True)
        rows.indices, rows.indptr = rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
        return rows, labels

    began = processor()
    rows, labels = load("train")
    model = SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=20, tol=None, average=True)
    model.fit(rows, labels)
    took = processor() - began
    rows, labels = load("test")
    return took, log_loss(labels, model.predict_proba(rows)[:, 1])


def surprise(folder):
    from surprise import SVD, Dataset, Reader, accuracy

    def load(name):
        reader = Reader(line_format="user item rating", sep="\t", rating_scale=(1, 5))
        return Dataset.load_from_file(f"{folder}/{name}.inter", reader).build_full_trainset()

    began = processor()
    model = SVD(n_factors=16, n_epochs=15, lr_all=0.01, reg_all=0.05, random_state=1)
    model.fit(load("train"))
    took = processor() - began
    return took, accuracy.rmse(model.test(load("test").build_testset()), verbose=False)


def splits(folder, seed, cache):
    import zipfile

    wheel = next(name for name in os.listdir(cache) if "recbole" in name and name.endswith(".whl"))
    rows = zipfile.ZipFile(f"{cache}/{wheel}").read("recbole/dataset_example/ml-100k/ml-100k.inter")
    rows = [line.split("\t")[:3] for line in rows.decode().split("\n")[1:] if line]
    random.Random(seed).shuffle(rows)
    for name, part in [("test", rows[: len(rows) // 10]), ("train", rows[len(rows) // 10 :])]:
        with open(f"{folder}/{name}.inter", "w") as file:
            file.writelines("\t".join(row) + "\n" for row in part)


def svd(folder, seed):
    from surprise import SVD, Dataset, Reader

    def rows(name):
        return [line.rstrip().split("\t") for line in open(f"{folder}/{name}.inter")]

    reader = Reader(line_format="user item rating", sep="\t")
    train = rows("train")
    model = SVD(n_factors=16, n_epochs=25, lr_all=0.01, reg_all=0.08, random_state=seed)
    model.fit(Dataset.load_from_file(f"{folder}/train.inter", reader).build_full_trainset())
    users, items = {row[0] for row in train}, {row[1] for row in train}
    known = [row for row in rows("test") if row[0] in users and row[1] in items]
    errors = [model.predict(user, item).est - float(rating) for user, item, rating in known]
    return 0, float(np.sqrt(np.mean(np.square(errors))))


def mails(folder, seed, cache):
    import collections
    import re
    import tarfile

    name = next(name for name in os.listdir(cache) if "spam-assassin" in name and name.endswith(".tgz"))
    with tarfile.open(f"{cache}/{name}") as packed:
        members = sorted((m for m in packed if re.search("/data/.*/.*[.]txt$", m.name)), key=lambda m: m.name)
        texts = [re.findall(rb"[a-z]{2,20}", packed.extractfile(m).read().lower()) for m in members]
    common = collections.Counter(word for text in texts for word in set(text)).most_common(WORDS)
    number = {word: place for place, (word, _) in enumerate(common)}
    rows = [collections.Counter(number[word] for word in text if word in number) for text in texts]
    rows = [row for row in rows if len(row) > 3]
    random.Random(seed).shuffle(rows)
    for name, part in [("test", rows[:600]), ("train", rows[600:])]:
        with open(f"{folder}/{name}.svm", "w") as file:
            file.writelines("0 " + " ".join(f"{k}:{v}" for k, v in sorted(row.items())) + "\n" for row in part)


def lda(folder, seed):
    """Writes its topics as a model of ours, so that one evaluator scores both."""
    from safetensors import safe_open
    from safetensors.numpy import save_file
    from sklearn.datasets import load_svmlight_file
    from sklearn.decomposition import LatentDirichletAllocation

    rows, _ = load_svmlight_file(f"{folder}/train.svm", n_features=WORDS, zero_based=True)
    model = LatentDirichletAllocation(
        20, learning_method="online", batch_size=256, max_iter=10, random_state=seed, learning_offset=10.0
    )
    values = np.ascontiguousarray(model.fit(rows).components_.T.astype(np.float32))
    with safe_open(f"{folder}/ours.safetensors", "np") as ours:
        about = ours.metadata()
    tensors = {"rows": np.arange(WORDS, dtype=np.uint32), "values": values}
    save_file(tensors, f"{folder}/theirs.safetensors", metadata=about)


what, folder, *more = sys.argv[1:]
made = [write, ratings, vw, sgd, surprise, splits, svd, mails, lda]
result = next(function for function in made if function.__name__ == what)(folder, *(int(word) if word.isdigit() else word for word in more))
if result:
    print(json.dumps({"cpu": result[0], "loss": result[1]}))
